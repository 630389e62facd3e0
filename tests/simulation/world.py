"""A small hostile world from one seed: late, doubled, reordered, conflicting and broken input; crashes and replays.

The core runs as the shell would run it: batches of any size, a crash after computing (nothing is kept, the batch is
cut anew), a restart that knows only the changelog's bytes. The auditor reads the same log and says what must be.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import schemas
from pipeline.domain.instants import HOUR_MS, format_instant, parse_instant
from tests.builders import (
    NOON,
    SECRET,
    TICK,
    Partition,
    Record,
    catalog,
    command,
    flat_book,
    issue_grant,
    open_account,
    publication,
    record,
    usage,
)
from tests.simulation.auditor import Auditor, Verdict, rules_from_plan_file

ACCOUNTS = 5
STEPS_MS = (0, 0, 0, 0, 1, 1, 1000, 1000, HOUR_MS, 9 * HOUR_MS, 60 * HOUR_MS)
LONG_STEPS_MS = (*STEPS_MS, 300 * HOUR_MS)
"""Of one world in four: there most periods end while their charges can still be taken back."""
PLANS = Path(schemas.__file__).parent / "plans" / "2026-01.json"


def events(random: Random, count: int) -> Iterator[tuple[int, dict[str, Any] | bytes]]:
    """(accepted_at, event): what a few careless producers and operators send."""
    at: int = NOON
    sent: list[dict[str, Any]] = []
    steps = random.choice([STEPS_MS, STEPS_MS, STEPS_MS, LONG_STEPS_MS])
    for number in range(count):
        at += random.choice(steps)
        opening = (
            number < ACCOUNTS - 1
        )  # All but one are open from the start, so that most usage finds credits.
        plan = random.choice(["free", "starter", "prepaid"])
        event = (
            open_account(plan, account=f"a{number}", at=at, command_id=f"o{number}")
            if opening
            else _event(random, number, at, sent)
        )
        if isinstance(event, dict):
            sent.append(event)
        yield at, event


def _event(random: Random, number: int, at: int, sent: list[dict[str, Any]]) -> dict[str, Any] | bytes:
    account = f"a{random.randrange(ACCOUNTS)}"
    makers: dict[str, Callable[[], dict[str, Any] | bytes]] = {
        "order": lambda: _order(random, number, account, at),
        "hold": lambda: _hold(random, number, account, at, sent),
        "tick": lambda: dict(TICK),
        "again": lambda: _again(random, at, sent or [dict(TICK)]),
        "broken": lambda: _broken(random, account, number, at),
        "readmission": lambda: _readmission(random, number, at, sent),
        "publication": lambda: _publication(random, number, at),
        "correction": lambda: _correction(random, number, account, at, sent),
        "payment": lambda: _payment(random, number, account, at, sent),
        "usage": lambda: _usage(random, account, number, at),
    }
    (kind,) = random.choices(list(makers), [18, 20, 3, 10, 5, 4, 3, 8, 4, 33])
    return makers[kind]()


def _order(random: Random, number: int, account: str, at: int) -> dict[str, Any]:
    plan = random.choice(["free", "starter", "pro", "prepaid", "gold"])
    match random.choices(["open", "change", "close", "void", "settings", "grant"], [5, 4, 0.3, 3, 12, 8])[0]:
        case "settings":
            return _settings(random, number, account, at)
        case "open":
            return open_account(plan, account=account, at=at, command_id=f"o{number}")
        case "change":
            return command("change_plan", {"plan": plan}, account=account, at=at, command_id=f"p{number}")
        case "close":
            return command("close", {}, account=account, at=at, command_id=f"x{number}")
        case "void":
            name = {"grant_id": f"g{random.randrange(max(1, number))}"}
            return command("void_grant", name, account=account, at=at, command_id=f"v{number}")
        case _:
            return _grant(random, number, account, at)


def _settings(random: Random, number: int, account: str, at: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if random.random() < 0.8:
        settings["overage_ceiling"] = random.choice([None, "10", "500", "500", "0.5"])
    if random.random() < 0.4:
        settings["auto_topup"] = random.choice([None, *_TOPUPS])
    if random.random() < 0.3:
        settings["alert_thresholds"] = random.choice([[], [50], [10, 90, 120]])
    return command("configure", settings, account=account, at=at, command_id=f"s{number}")


def _payment(
    random: Random, number: int, account: str, at: int, sent: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the provider said of an order, or of one that there is not, once or twice."""
    buyers = [
        each["subject"] for each in sent if "auto_topup" in str(each.get("data")) and each.get("subject")
    ]
    account = random.choice(buyers) if buyers else account
    answer = {
        "order": random.choice([1, 1, 2, 3]),
        "result": random.choice(["succeeded", "succeeded", "declined"]),
    }
    return command("topup_result", answer, account=account, at=at, command_id=f"t{number}")


def _hold(random: Random, number: int, account: str, at: int, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """Place a hold, or end one that was placed lately, at times with the wrong account, usage or moment."""
    verb = random.choice(["hold", "hold", "capture", "capture", "release"])
    placed = [each for each in sent[-40:] if str(each.get("type")).endswith(".hold.v1")]
    service, data = random.choice(_KINDS)
    usage_data = {
        "type": f"org.apimage.usage.{service}.v1",
        "data": {**data, "images": random.choice([1, 1, 2, 8])},
    }
    if verb == "hold" or not placed:
        terms: dict[str, Any] = {"hold_id": f"h{random.choice([number, number, number - 5])}"}
        if random.random() < 0.3:
            terms["credits"] = random.choice(["1", "2.5", "60"])
        else:
            terms |= {"usage": usage_data, "partial": random.random() < 0.3}
        if random.random() < 0.7:
            terms["seconds"] = random.choice([1, 3600, 40_000])
        return command("hold", terms, account=account, at=at, command_id=f"h{number}")
    first = random.choice(placed)
    account = first["subject"] if random.random() < 0.95 else account
    if verb == "release":
        return command(
            "release", {"hold_id": first["data"]["hold_id"]}, account=account, at=at, command_id=f"r{number}"
        )
    asked: dict[str, Any] = first["data"].get("usage", usage_data) if random.random() < 0.8 else usage_data
    done = {**asked, "data": {**asked["data"], "images": random.randint(1, asked["data"]["images"])}}
    event_id = f"e{number if random.random() < 0.9 else number - 7}"
    time = format_instant(at + random.choice([0, 0, 0, 0, -80 * HOUR_MS]))
    usage_data = {**done, "id": event_id, "source": "/services/images", "time": time}
    terms = {"hold_id": first["data"]["hold_id"], "usage": usage_data}
    return command("capture", terms, account=account, at=at, command_id=f"k{number}")


def _readmission(random: Random, number: int, at: int, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """Usage of before is put back, late or not; at times the records are said to have a copy of it."""
    usages = [each for each in sent[-40:] if "usage" in str(each.get("type")) and "time" in each]
    first = random.choice(usages) if usages else usage(at=at, event_id=f"e{number}")
    accepted = parse_instant(first["time"]) + random.choice(
        [0, HOUR_MS, 73 * HOUR_MS, 840 * HOUR_MS, 841 * HOUR_MS]
    )
    terms: dict[str, Any] = {
        "usage": {name: first[name] for name in ("type", "id", "source", "time", "data") if name in first},
        "letter": {"partition": 0, "offset": number, "accepted_at": format_instant(accepted)},
    }
    if random.random() < 0.2:
        terms["known"] = {"offset": 3, "same_content": random.random() < 0.5}
    if random.random() < 0.2:
        terms["usage"]["id"] = f"readmitted{number}"
    account = first.get("subject", "a0")
    return command("readmit", terms, account=account, at=at, command_id=f"l{number}")


def _correction(
    random: Random, number: int, account: str, at: int, sent: list[dict[str, Any]]
) -> dict[str, Any]:
    """A charge of before is taken back, in part or twice, or rated again; now and then it is none."""
    charged = [
        each for each in sent[-60:] if str(each.get("id"))[:1] in {"e", "k"} and each["id"][1:].isdecimal()
    ]
    offset = random.randrange(number)
    if charged and random.random() < 0.9:
        first = max(random.choices(charged, k=2), key=_images)  # The larger use is the likelier overage.
        offset, account = (
            int(first["id"][1:]),
            str(first.get("subject", account)),
        )  # Its id is its place in the log.
    partition = 1 if random.random() < 0.02 else 0
    record = {"partition": partition, "offset": number, "event_offset": offset}
    if random.random() < 0.3:
        book = random.choice(["2026-01", "2026-01", f"v{random.randrange(number)}"])
        data: dict[str, Any] = {"record": record, "price_book": book}
        return command("rerate", data, account=account, at=at, command_id=f"n{number}")
    data = {"record": record}
    if random.random() < 0.6:
        data["credits"] = random.choice(["1", "0.5", "3", "40"])
    return command("reverse", data, account=account, at=at, command_id=f"m{number}")


def _images(event: dict[str, Any]) -> int:
    images = event["data"].get("images", 1) if isinstance(event.get("data"), dict) else 0
    return images if type(images) is int else 0


def _grant(random: Random, number: int, account: str, at: int) -> dict[str, Any]:
    begins = random.choice([None, None, at - HOUR_MS, at + random.randrange(1, 80) * HOUR_MS])
    ends = random.choice([None, (begins or at) + random.randrange(0, 100) * HOUR_MS + 1])
    terms: dict[str, Any] = {
        "kind": random.choice(["prepaid", "promotional", "goodwill", "monthly"]),
        "priority": random.choice([None, None, 0, 10, 99]),
        "effective_at": None if begins is None else format_instant(begins),
        "expires_at": None if ends is None else format_instant(ends),
    }
    amount = random.choice(["1", "7.5", "20", "0.000001", "1000"])
    return issue_grant(amount, grant_id=f"g{number}", account=account, at=at, **terms)


def _usage(random: Random, account: str, number: int, at: int) -> dict[str, Any]:
    time = at + random.choice([0, 0, 0, -1000, -70 * HOUR_MS, -73 * HOUR_MS, 200_000, 400_000])
    images = random.choice([1, 1, 1, 2, 5, 40])
    service, data = random.choice(_KINDS)
    return usage(service, data, account=account, event_id=f"e{number}", at=time, images=images)


_TOPUPS = [
    {"threshold": threshold, "pack": pack, "credits_max_per_period": cap}
    for threshold, pack, cap in (
        ("100", "credits-100", "100"), ("60", "credits-100", "250"), ("900", "credits-1000", "5000"),
        ("900", "credits-1000", "5000"), ("101", "credits-100", "500"), ("5", "credits-7", "500"),
        ("5", "credits-100", "50"),
    )
]  # fmt: skip
_KINDS: list[tuple[str, dict[str, Any]]] = [
    ("image_generation", {"quality": "medium", "width": 1024, "height": 1024}),
    ("image_generation", {"quality": "high", "width": 2048, "height": 2048, "transparent_background": True}),
    ("background_removal", {"format": "png", "transparent_background": True}),
    ("image_analysis", {"languages": ["de", "en"]}),
    ("upscaling", {"input_width": 512, "input_height": 512, "scale": 4}),
    ("upscaling", {"input_width": 777, "input_height": 999, "scale": 1.337}),
    ("post_processing", {"output_width": 3000, "output_height": 1000}),
    ("transparent_background", {"note": "kept"}),
]


def _publication(random: Random, number: int, at: int) -> dict[str, Any]:
    """New prices or plans, at times too soon, under an old name, with a plan or a service less, or a wrong hash."""
    effective = at + random.choice([59_000, 60_000, HOUR_MS, HOUR_MS, 40 * HOUR_MS])
    version = random.choice([f"v{number}", f"v{number}", f"v{number - 9}", "2026-01"])
    amount = random.choice(["0.5", "2", "7", "60"])
    if random.random() < 0.4:
        less = random.choice(["", "", "", "pro"])
        content = catalog(version, effective_from=effective, without=less, starter=amount, free="3")
        for each in content["plans"]:
            if each["plan"] == random.choice(["starter", "gold", "gold"]):
                each["overage_price"] = random.choice(["0.5", None])
    else:
        content = flat_book(version, effective_from=effective, image_analysis=amount)
        content["services"]["upscaling"]["price"] |= {"credits_per_megapixel": amount, "most": "61"}
        if random.random() < 0.1:
            del content["services"]["post_processing"]
    sha256 = "0" * 64 if random.random() < 0.05 else ""
    return publication(content, at=at, command_id=f"b{number}", sha256=sha256)


def _again(random: Random, at: int, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """A resend, sometimes stamped anew, sometimes with other content under the same id."""
    first = random.choice(sent[-30:])
    if "usage" not in str(first.get("type")) or random.random() < 0.6:
        return first
    if random.random() < 0.5 or not isinstance(first.get("data"), dict):
        return {**first, "time": format_instant(at)}
    return {**first, "data": {**first["data"], "images": 3}}


def _broken(random: Random, account: str, number: int, at: int) -> dict[str, Any] | bytes:
    event = usage("image_analysis", account=account, event_id=f"b{number}", at=at)
    match random.randrange(6):
        case 0:
            return json.dumps(event).encode()[: random.randrange(60)]
        case 1:
            return {**event, "data": {"images": random.choice([0, True, 1.0, "1", None, 10_001, -1])}}
        case 2:
            return {**event, "type": "org.apimage.usage.teleport.v1"}
        case 3:
            return {name: value for name, value in event.items() if name != random.choice(list(event))}
        case 4:
            grant = issue_grant(grant_id=f"x{number}", account=account, at=at)
            return {**grant, "data": {**grant["data"], "credits": "1000000"}}
        case _:
            return {**event, "subject": "nobody"}


def play(seed: int, count: int = 120) -> tuple[Partition, list[Verdict], Auditor]:
    """One world: the core with crashes and restarts, and the auditor over the same log."""
    random = Random(seed)
    log = [record(event, offset=offset, at=at) for offset, (at, event) in enumerate(events(random, count))]
    rules = rules_from_plan_file(PLANS, {"test-key": SECRET})
    if is_narrow(seed):
        rules = replace(
            rules, grants_max=NARROW_GRANTS, holds_max=NARROW_HOLDS, hold_shares_max=NARROW_SHARES
        )
    auditor = Auditor(rules)
    verdicts = [auditor.judge(each.timestamp, each.key, each.value, each.headers) for each in log]
    with limits_of(seed):
        return _run(random, log), verdicts, auditor


NARROW_GRANTS, NARROW_HOLDS, NARROW_SHARES = 2, 3, 4
"""Most grants, open holds, and shares of holds that an account has in one world of three: there accounts are full."""


def is_narrow(seed: int) -> bool:
    return seed % 3 == 2


def limits_of(seed: int) -> AbstractContextManager[None]:
    """Within it the core has the limits of this world."""
    return _narrow() if is_narrow(seed) else nullcontext()


@contextmanager
def _narrow() -> Iterator[None]:
    domain = "pipeline.domain"
    with (
        patch(f"{domain}.used_up.GRANTS_MAX", NARROW_GRANTS),
        patch(f"{domain}.hold_commands.HOLDS_MAX", NARROW_HOLDS),
        patch(f"{domain}.hold_commands.HOLD_SHARES_MAX", NARROW_SHARES),
    ):
        yield


def _run(random: Random, log: list[Record]) -> Partition:
    partition, rest = Partition(), log
    while rest:
        size = random.randint(1, len(rest))
        folded = partition.run(rest[:size])
        if random.random() < 0.3:
            continue  # Crashed before the commit: nothing of it was kept.
        partition.apply(folded)
        rest = rest[size:]
        if random.random() < 0.3:  # Restarted: all that is known now came from bytes.
            partition = Partition(
                accounts=dict(partition.accounts),
                published=dict(partition.published),
                identities=dict(partition.identities),
                cursor=partition.cursor,
                said=partition.said,
            )
    return partition
