"""Commands in the midst of usage: grants, holds and what becomes of them, changes of terms, now and then a closure."""

from collections.abc import Iterator
from random import Random
from typing import Any, Final

import orjson

from pipeline.load.record import CommandKey, LoadRecord, account_id, command, instant
from pipeline.load.usage import UsageTemplate

PLANS: Final = ("free", "starter", "pro", "prepaid")
HOLD_SECONDS: Final = 86_400
"""As long as a hold may live: that none expires within a load keeps its amounts a function of the input."""
CAPTURED_SHARE, RELEASED_SHARE = 0.8, 0.17
"""Of holds; the rest stays open."""
REPEATED_SHARE = 0.1
"""Of captures that are sent once more."""
CLOSED_SHARE, CONFIGURED_SHARE = 0.1, 0.4
"""Of changes of terms that are a closure, and that are billing settings; the rest is a change of plan."""
CEILINGS: Final = (None, "5.5", "200", "1000")
"""Of overage; None turns its protection on again."""
TOPUPS: Final = (
    None,
    {"threshold": "100", "pack": "credits-100", "credits_max_per_period": "1000"},
    {"threshold": "500", "pack": "credits-1000", "credits_max_per_period": "20000"},
)
"""Packs that are bought by themselves; None: no longer."""


class Orders:
    """Makes the commands of one load."""

    def __init__(self, key: CommandKey, random: Random, *, topups: bool) -> None:
        self._key = key
        self._topups = topups
        self._random = random

    def hold(self, account: str, template: UsageTemplate, name: str, time_ms: int) -> Iterator[LoadRecord]:
        """A hold for one piece of usage; then it is captured in full or in part, released, or forgotten."""
        data = orjson.loads(template.data_json)
        hold_id = f"hold-{name}"
        placed = {"type": template.type, "data": data}
        terms = {"hold_id": hold_id, "usage": placed, "seconds": HOLD_SECONDS, "partial": True}
        yield self._command("hold", account, hold_id, time_ms, terms)
        chance = self._random.random()
        if chance < CAPTURED_SHARE:
            used = {**data, "images": self._random.randint(1, data.get("images", 1))}
            usage = {"id": f"held-{name}", "source": template.source, "time": instant(time_ms)}
            terms = {"hold_id": hold_id, "usage": {**placed, **usage, "data": used}}
            capture = self._command("capture", account, f"capture-{name}", time_ms, terms)
            yield capture
            if self._random.random() < REPEATED_SHARE:
                yield capture
        elif chance < CAPTURED_SHARE + RELEASED_SHARE:
            yield self._command("release", account, f"release-{name}", time_ms, {"hold_id": hold_id})

    def top_up(self, account: str, name: str, time_ms: int) -> LoadRecord:
        """One more grant."""
        grant_id = f"{account}/top-up-{name}"
        grant = {"grant_id": grant_id, "kind": "goodwill", "credits": f"{self._random.randint(1, 60)}.5"}
        return self._command("grant", account, f"issue-{grant_id}", time_ms, grant)

    def change(self, account: str, name: str, time_ms: int) -> LoadRecord:
        """Another plan, perhaps the same one; other billing settings; or the end."""
        chance = self._random.random()
        if chance < CONFIGURED_SHARE:
            settings: dict[str, Any] = {
                "overage_ceiling": self._random.choice(CEILINGS),
                "alert_thresholds": [50, 80, 100, 110],
            }
            if self._topups:
                settings["auto_topup"] = self._random.choice(TOPUPS)
            return self._command("configure", account, f"configure-{name}", time_ms, settings)
        if chance < CONFIGURED_SHARE + CLOSED_SHARE:
            return self._command("close", account, f"close-{name}", time_ms, {"reason": "load"})
        plan = {"plan": self._random.choice(PLANS)}
        return self._command("change_plan", account, f"change-{name}", time_ms, plan)

    def anyone(self, accounts: int) -> str:
        """An account, busy or not."""
        return account_id(self._random.randrange(accounts))

    def _command(
        self, verb: str, account: str, command_id: str, time_ms: int, data: dict[str, Any]
    ) -> LoadRecord:
        return command(self._key, verb, account, id=command_id, time_ms=time_ms, data=data)
