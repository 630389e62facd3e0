"""Logs for Hypothesis: a small world in which accounts, grants, holds and ids meet often, and every command occurs.

A log is read off one string of bytes, a few for each choice: Hypothesis draws and shrinks that as one value, about ten
times as fast as a draw for each choice. A byte that is lower, or missing, is a simpler choice: the first one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from hypothesis import strategies as st

from pipeline.domain.account import Account
from pipeline.domain.instants import HOUR_MS, format_instant
from pipeline.domain.usage import AccountId
from pipeline.state import decode_account
from tests.builders import (
    NOON,
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

Choice = TypeVar("Choice")

ACCOUNTS: Final = ("a", "b", "c")
START: Final = NOON + 60_000
"""When the small plans take force, and the accounts are opened."""
GAP: Final = 10
"""Between offsets: there is room for resends and ticks, and no other record stands elsewhere for them."""
EVENTS_MAX: Final = 32
CHOICES: Final = 10 * EVENTS_MAX
STEPS_MS: Final = (0, 0, 0, 0, 0, 0, 1, 60_000, HOUR_MS, 10 * HOUR_MS, 725 * HOUR_MS, 725 * HOUR_MS)
"""The longest ends a period, and what was charged in it can still be taken back."""
PACKS: Final = [{"pack": "credits-10", "credits": "10", "price": "1"}]
SOURCE: Final = "/services/images"


@dataclass
class Choices:
    """Choices by the next byte."""

    rest: Iterator[int]

    def of(self, *options: Choice) -> Choice:
        return options[next(self.rest, 0) % len(options)]

    def number(self, least: int, most: int) -> int:
        return least + next(self.rest, 0) % (most - least + 1)


@dataclass
class Writer:
    """A log as it is written: what was sent so far, for others to name."""

    choose: Choices
    at: int = START
    log: list[Record] = field(default_factory=list[Record])
    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    holds: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    used: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    """Offset and account of usage, captured usage among it."""

    @property
    def offset(self) -> int:
        return GAP * (len(self.log) + 1)

    def add(self, event: dict[str, Any]) -> None:
        self.log.append(record(event, offset=self.offset, at=self.at))
        self.sent.append(event)

    def order(self, name: str, account: str, **data: Any) -> dict[str, Any]:
        return command(name, data, account=account, command_id=f"{name}:{self.offset}", at=self.at)


def small_plans(version: str = "small", effective_from: int = START) -> dict[str, Any]:
    """Plans of a few credits, so that most accounts run out; packs of ten."""
    content = catalog(version, effective_from=effective_from, free="2", starter="6", pro="15")
    for plan in content["plans"]:
        if plan["paid"]:
            plan["packs"] = PACKS
    return content


@st.composite
def logs(draw: st.DrawFn, events_max: int = EVENTS_MAX) -> list[Record]:
    """Three accounts of different plans, and what becomes of them."""
    count = min(events_max, draw(st.integers(1, 2 * events_max)))  # Half of the logs are long.
    writer = Writer(Choices(iter(draw(st.binary(min_size=CHOICES, max_size=CHOICES)))))
    writer.log.append(record(publication(small_plans(), at=NOON), offset=GAP, at=NOON))
    for account, plan in zip(ACCOUNTS, writer.choose.of(*_PLANS), strict=True):
        writer.add(open_account(plan, account=account, at=START, command_id=f"open:{account}"))
    for account in ("a", "b"):
        ends = writer.choose.of(format_instant(START + HOUR_MS), None)
        terms = {"expires_at": ends, "priority": writer.choose.of(0, None)}
        amount = writer.choose.of("3", "10", "2.5")
        writer.add(issue_grant(amount, grant_id="first", account=account, at=START, **terms))
        writer.add(writer.order("configure", account, **_settings(writer.choose)))
    for _ in range(count):
        writer.at += writer.choose.of(*STEPS_MS)
        writer.add(_event(writer))
    return writer.log


_PLANS: Final = (("starter", "prepaid", "free"), ("pro", "starter", "free"), ("prepaid", "starter", "free"))


def ticked(log: Sequence[Record]) -> list[Record]:
    """The same log with a tick wherever time moves on, and at the end: whatever else comes between records then lets
    no time pass that had not passed."""
    found: list[Record] = []
    for each in log:
        if not found or found[-1].timestamp < each.timestamp:
            found.append(record(TICK, offset=each.offset - GAP // 2, at=each.timestamp))
        found.append(each)
    return found


def played(log: Sequence[Record], *, at_once: bool = True) -> Partition:
    """What a partition says of a log; at once, or record by record."""
    partition = Partition()
    for part in [list(log)] if at_once else [[each] for each in log]:
        partition.apply(partition.run(part))
    return partition


def answer(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of what was said of one event: what became of it, or of the command that brought it."""
    return next(each for each in reversed(said) if "outcome" in each)


def branch(partition: Partition) -> Partition:
    """Another partition in the same state."""
    return Partition(
        core=partition.core,
        accounts=dict(partition.accounts),
        published=dict(partition.published),
        identities=dict(partition.identities),
        cursor=partition.cursor,
        said=list(partition.said),
    )


def account_of(partition: Partition, name: str) -> Account:
    return decode_account(AccountId(name), partition.accounts[name.encode()])


def accounts_of(partition: Partition) -> dict[str, Account]:
    return {key.decode(): account_of(partition, key.decode()) for key in partition.accounts}


def _event(writer: Writer) -> dict[str, Any]:
    choose = writer.choose
    account = choose.of("a", "b", "c", "a", "b", "c", "a", "b", "c", "stranger")
    makers = (_use, _hold, _end_hold, _correct, _grant, _terms, _other)
    weights = (10, 4, 5, 6, 2, 4, 4)
    pick = choose.number(0, sum(weights) - 1)
    for make, weight in zip(makers, weights, strict=True):
        if pick < weight:
            return make(writer, account)
        pick -= weight
    raise AssertionError("one of them is chosen")


def _use(writer: Writer, account: str) -> dict[str, Any]:
    choose = writer.choose
    late = choose.of(0, 0, 0, 0, 0, 0, HOUR_MS, 72 * HOUR_MS, 73 * HOUR_MS, 900 * HOUR_MS, -400_000)
    writer.used.append((writer.offset, account))
    return usage(
        choose.of("image_analysis", "image_analysis", "background_removal", "image_generation"),
        account=account, event_id=f"e{writer.offset}", at=writer.at - late, images=choose.of(1, 2, 3, 5, 6),
    )  # fmt: skip


def _hold(writer: Writer, account: str) -> dict[str, Any]:
    choose = writer.choose
    service = choose.of("image_analysis", "background_removal")
    asked: dict[str, Any] = {
        "type": f"org.apimage.usage.{service}.v1",
        "data": {"images": choose.of(1, 2, 6, 9, 30)},
    }
    terms: dict[str, Any] = {"hold_id": f"h{writer.offset}", "seconds": choose.of(900, 3600, 40_000, 1)}
    match choose.of("usage", "usage", "partial", "partial", "credits"):
        case "credits":
            terms["credits"] = choose.of("1", "2.5", "4")
        case kind:
            if kind == "partial":  # All that is left, overage too.
                asked["data"] = {"images": 30}
            terms |= {"usage": asked, "partial": kind == "partial"}
    placed = writer.order("hold", account, **terms)
    writer.holds.append(placed)
    return placed


def _end_hold(writer: Writer, account: str) -> dict[str, Any]:
    """Of a hold that was placed lately: at times it is over, refused, or asked for twice."""
    choose = writer.choose
    if not writer.holds:
        return _hold(writer, account)
    placed = choose.of(*reversed(writer.holds[-4:]))
    account, terms = placed["subject"], {"hold_id": placed["data"]["hold_id"]}
    if choose.of("capture", "capture", "release") == "release":
        return writer.order("release", account, **terms)
    asked = placed["data"].get("usage", {"type": "org.apimage.usage.image_analysis.v1", "data": {}})
    done = {
        **asked, "id": f"e{writer.offset}", "source": SOURCE, "time": format_instant(writer.at),
        "data": {"images": choose.of(1, 2, 6, 12)},
    }  # fmt: skip
    writer.used.append((writer.offset, account))
    return writer.order("capture", account, **terms, usage=done)


def _correct(writer: Writer, account: str) -> dict[str, Any]:
    """Takes back usage of before, at times too much or twice; rates it again; or puts it back."""
    choose = writer.choose
    if not writer.used:
        return _use(writer, account)
    offset, account = choose.of(*reversed(writer.used[-5:]))
    place = {"partition": 0, "offset": 0, "event_offset": offset}
    match choose.of("reverse", "reverse", "reverse", "part", "rerate", "readmit"):
        case "part":
            return writer.order("reverse", account, record=place, credits=choose.of("0.5", "1", "3"))
        case "rerate":
            return writer.order(
                "rerate", account, record=place, price_book=choose.of("2026-01", "dear", "none")
            )
        case "readmit":
            return _readmit(writer)
        case _:
            return writer.order("reverse", account, record=place)


def _readmit(writer: Writer) -> dict[str, Any]:
    used = [each for each in writer.sent if ".usage." in each["type"]]
    if not used:
        return _use(writer, "a")
    first = writer.choose.of(*reversed(used[-5:]))
    letter = {"partition": 0, "offset": 1, "accepted_at": format_instant(writer.at)}
    again = {name: first[name] for name in ("type", "id", "source", "time", "data")}
    return writer.order("readmit", first["subject"], usage=again, letter=letter)


def _grant(writer: Writer, account: str) -> dict[str, Any]:
    choose = writer.choose
    begins = choose.of(None, None, None, writer.at + HOUR_MS, writer.at + 30 * HOUR_MS)
    hours = choose.of(None, 1, 5, 40, 300)
    ends = None if hours is None else (begins or writer.at) + hours * HOUR_MS
    return issue_grant(
        choose.of("4", "2.5", "10"),
        grant_id=f"g{choose.number(0, 12)}",
        account=account,
        at=writer.at,
        kind=choose.of("prepaid", "promotional", "goodwill", "monthly"),
        priority=choose.of(None, None, 0, 99),
        effective_at=None if begins is None else format_instant(begins),
        expires_at=None if ends is None else format_instant(ends),
    )


def _settings(choose: Choices) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if choose.of(True, True, False):
        settings["overage_ceiling"] = choose.of("6", "9", "30", None)
    if choose.of(True, False):
        cap = choose.of("1000", "20", "10")
        settings["auto_topup"] = choose.of(
            {"threshold": "4", "pack": "credits-10", "credits_max_per_period": cap}, None
        )
    if not settings or choose.of(False, False, True):
        settings["alert_thresholds"] = choose.of([50, 100], [10, 90, 120], [])
    return settings


def _terms(writer: Writer, account: str) -> dict[str, Any]:
    choose = writer.choose
    match choose.of("configure", "payment", "payment", "payment", "plan", "void"):
        case "configure":
            return writer.order("configure", account, **_settings(choose))
        case "payment":
            account = choose.of("a", "b")
            result = choose.of("succeeded", "succeeded", "declined")
            return writer.order("topup_result", account, order=choose.of(1, 1, 1, 2, 3), result=result)
        case "plan":
            return writer.order("change_plan", account, plan=choose.of("pro", "starter", "free", "prepaid"))
        case _:
            name = choose.of("first", f"g{choose.number(0, 12)}")
            return writer.order("void_grant", account, grant_id=name)


def _other(writer: Writer, _account: str) -> dict[str, Any]:
    choose = writer.choose
    match choose.of("again", "again", "again", "clash", "tick", "tick", "prices", "prices", "plans", "close"):
        case "again":
            return choose.of(*reversed(writer.sent[-6:]))
        case "clash":
            first = choose.of(
                *reversed([each for each in writer.sent if ".usage." in each["type"]] or [dict(TICK)])
            )
            return {**first, "data": {"images": 7}} if "data" in first else first
        case "prices":
            book = flat_book("dear", effective_from=writer.at + 60_000, image_analysis=choose.of("2", "0.5"))
            return publication(book, at=writer.at, command_id=f"book:{writer.offset}")
        case "plans":
            plans = small_plans("more", writer.at + 60_000)
            return publication(plans, at=writer.at, command_id=f"plans:{writer.offset}")
        case "close":
            return (
                writer.order("close", "c")
                if choose.of(False, True)
                else open_account("free", account="d", at=writer.at)
            )
        case _:
            return dict(TICK)
