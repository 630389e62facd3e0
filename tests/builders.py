"""Builders: valid by default, one keyword to differ. And `fold`, the core over a log in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from pipeline.bootstrap import bundled, rules_of
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import Grant, GrantId
from pipeline.domain.instants import Instant, format_instant, parse_instant
from pipeline.domain.signing import sign
from pipeline.evidence import wanted
from pipeline.metering import Batch, Core, Folded, PartitionView, initial_cursor
from pipeline.published import content_hash
from pipeline.settings import RuleSettings
from pipeline.state import Cursor, decode_account, next_boundary_ms
from schemas.publication import SCHEDULE_SUBJECT
from schemas.topics import ACCOUNT_ALERTS, ACCOUNT_BALANCES

NOON = parse_instant("2026-11-23T12:00:00Z")
KEY_ID, SECRET = "test-key", bytes.fromhex("5e" * 32)

SQUARE: Mapping[str, Any] = {"quality": "medium", "width": 1024, "height": 1024}
"""A medium 1:1 image: 1 credit."""


class Record(NamedTuple):
    """One record of the log, as the core sees it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def core(**rules: int) -> Core:
    return Core(
        rules=rules_of(RuleSettings(**rules)),
        bundled=bundled(),
        command_keys={KEY_ID: SECRET},
    )


def usage(
    service: str = "image_generation",
    data: Mapping[str, Any] | None = None,
    *,
    account: str = "acct",
    event_id: str = "e1",
    source: str = "/services/images",
    at: int = NOON,
    **attributes: Any,
) -> dict[str, Any]:
    """A usage event; by default one medium 1:1 image, 1 credit."""
    if data is None:
        data = SQUARE if service == "image_generation" else {}
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": f"org.apimage.usage.{service}.v1",
        "subject": account,
        "time": format_instant(at),
        "data": {**data, **attributes},
    }


def command(
    name: str,
    data: Mapping[str, Any],
    *,
    account: str = "acct",
    command_id: str = "c1",
    at: int = NOON,
    group: str = "account",
) -> dict[str, Any]:
    """A signed command; of the group `schedule`, one that publishes."""
    event = usage(account=account, event_id=command_id, source="/operators", at=at)
    event |= {"type": f"org.apimage.{group}.{name}.v1", "data": dict(data), "keyid": KEY_ID}
    names = ("id", "source", "type", "subject", "time")
    canonical = orjson.dumps(event["data"], option=orjson.OPT_SORT_KEYS)
    return event | {"signature": sign(SECRET, **{each: event[each] for each in names}, data_json=canonical)}


def open_account(
    plan: str = "free", *, account: str = "acct", at: int = NOON, command_id: str = "open"
) -> dict[str, Any]:
    return command("open", {"plan": plan}, account=account, at=at, command_id=command_id)


def issue_grant(
    credits: str = "100", *, grant_id: str = "pack", account: str = "acct", at: int = NOON, **terms: Any
) -> dict[str, Any]:
    data = {"grant_id": grant_id, "kind": "prepaid", "credits": credits, **terms}
    return command("grant", data, account=account, command_id=f"grant:{grant_id}", at=at)


def publication(
    content: Mapping[str, Any], *, command_id: str = "publish", at: int = NOON, sha256: str = ""
) -> dict[str, Any]:
    """A signed command that publishes a price book, or a plan catalogue if it has plans."""
    kind = "plan_catalog" if "plans" in content else "price_book"
    data = {"content": dict(content), "sha256": sha256 or content_hash(orjson.dumps(content))}
    return command(kind, data, account=SCHEDULE_SUBJECT, command_id=command_id, at=at, group="schedule")


def flat_book(version: str, *, effective_from: int, image_analysis: str = "3") -> dict[str, Any]:
    """The first price book with another price for image analysis."""
    book = _release_file("price_books/2026-01.json")
    book["services"]["image_analysis"]["price"]["credits"] = image_analysis
    return book | {"version": version, "effective_from": format_instant(effective_from)}


def catalog(
    version: str, *, effective_from: int, without: str = "", **monthly_credits: str
) -> dict[str, Any]:
    """The first plan catalogue with other monthly credits; a plan that it has not got is a new paid one."""
    content = _release_file("plans/2026-01.json")
    plans = {each["plan"]: each for each in content["plans"] if each["plan"] != without}
    for name, amount in monthly_credits.items():
        fresh = {"plan": name, "name": name, "paid": True, "overage_price": "0.01"}
        plans[name] = plans.get(name, fresh) | {"monthly_credits": amount}
    named = {"version": version, "effective_from": format_instant(effective_from)}
    return content | named | {"plans": list(plans.values())}


def _release_file(name: str) -> dict[str, Any]:
    return dict(orjson.loads(files("schemas").joinpath(name).read_bytes()))


TICK: Mapping[str, Any] = {
    "specversion": "1.0",
    "id": "tick",
    "source": "/scheduler",
    "type": "org.apimage.tick.v1",
}


def grant(
    grant_id: str = "g",
    credits: str = "10",
    *,
    kind: str = "monthly",
    priority: int = 10,
    effective_at: int = NOON,
    expires_at: int | None = None,
    created_at: int = NOON,
) -> Grant:
    ends = None if expires_at is None else Instant(expires_at)
    return Grant(
        GrantId(grant_id),
        kind,
        priority,
        parse_credits(credits),
        Instant(effective_at),
        ends,
        Instant(created_at),
        "",
    )


def micros(credits: str) -> Credits:
    return parse_credits(credits)


@dataclass
class Partition:
    """A partition in memory: folds events and applies what comes out, as the shell does after a commit."""

    core: Core = field(default_factory=core)
    accounts: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    published: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    identities: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    cursor: Cursor | None = None
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """Every record: topic and content."""

    def fold(self, *events: Mapping[str, Any] | bytes, at: int = NOON) -> list[dict[str, Any]]:
        """Fold events accepted at one instant; what was said about them, balances and alerts left out."""
        start = 0 if self.cursor is None else self.cursor.next_offset
        records = [record(event, offset=start + index, at=at) for index, event in enumerate(events)]
        return self.apply(self.run(records))

    def run(self, records: Iterable[Record]) -> Folded:
        batch, records = Batch(self.core, self.view()), list(records)
        batch.feed(records, self._evidence(records))
        return batch.finish()

    def _evidence(self, records: Sequence[Record]) -> dict[int, bytes]:
        """The metered records that commands name, as the shell would read them."""
        named = {place.event_offset for place in wanted(records, self.core)}
        said = [each for each in self.of("metered-records") if each["offset"] in named]
        return {each["offset"]: orjson.dumps(each) for each in said}

    def view(self) -> PartitionView:
        return PartitionView(
            partition=0,
            cursor=self.cursor or initial_cursor(self.core, "topic-id"),
            published=self.published,
            accounts=self.accounts,
            identities=self.identities,
            due_accounts=self._due,
        )

    def apply(self, folded: Folded) -> list[dict[str, Any]]:
        self.published |= folded.published
        self.accounts |= folded.accounts
        self.identities |= folded.identities
        self.cursor = folded.cursor
        said = [(each.topic, orjson.loads(each.value)) for each in folded.records]
        self.said += said
        return [content for topic, content in said if topic not in {ACCOUNT_BALANCES, ACCOUNT_ALERTS}]

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Everything said on one topic, by a part of its name."""
        return [content for name, content in self.said if topic in name]

    def balance(self, account: str = "acct") -> str:
        return str(
            orjson.loads(
                orjson.dumps(
                    [each["posted"] for each in self.of("balances") if each["account_id"] == account][-1]
                )
            )
        )

    def left(self, account: str = "acct") -> dict[str, Credits]:
        """What is left of each grant in effect."""
        state = decode_account(account, self.accounts[account.encode()])  # type: ignore[arg-type]
        return {each.grant_id: left for each, left in zip(state.grants, state.remaining, strict=True)}

    def _due(self, clock_ms: int, limit: int) -> list[bytes]:
        due = sorted((next_boundary_ms(row), key) for key, row in self.accounts.items())
        return [key for boundary, key in due if boundary <= clock_ms][:limit]


def record(event: Mapping[str, Any] | bytes, *, offset: int = 0, at: int = NOON) -> Record:
    """The record of an event, keyed by its subject."""
    if isinstance(event, bytes):
        return Record(offset, at, b"acct", event)
    subject = event.get("subject")
    return Record(offset, at, subject.encode() if isinstance(subject, str) else None, orjson.dumps(event))
