"""What holds for every log: conservation, idempotency, replay, burn order, nothing negative."""

from collections import defaultdict
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.account import FIRST_HASH
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import burn_down, burn_order
from pipeline.domain.instants import HOUR_MS, format_instant
from pipeline.state import decode_account, encode_account, row_digest
from tests.builders import (
    NOON,
    TICK,
    Partition,
    Record,
    command,
    grant,
    issue_grant,
    open_account,
    record,
    usage,
)

ACCOUNTS = ["a", "b", "c"]


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """One event of a small world, so that accounts, grants and ids meet often."""
    account = draw(st.sampled_from(ACCOUNTS))
    number = draw(st.integers(0, 12))
    match draw(st.sampled_from(["usage", "usage", "usage", "open", "grant", "void", "tick"])):
        case "open":
            return open_account(
                draw(st.sampled_from(["free", "prepaid"])), account=account, command_id=f"o{number}"
            )
        case "grant":
            hours = draw(st.none() | st.integers(1, 60))
            starts = draw(st.none() | st.integers(0, 40))
            terms: dict[str, Any] = {
                "effective_at": None if starts is None else format_instant(NOON + starts * HOUR_MS),
                "expires_at": None
                if hours is None
                else format_instant(NOON + ((starts or 0) + hours) * HOUR_MS),
                "priority": draw(st.none() | st.integers(0, 3)),
            }
            credits_ = draw(st.sampled_from(["1", "2.5", "10"]))
            return issue_grant(credits_, grant_id=f"g{number}", account=account, **terms)
        case "void":
            return command("void_grant", {"grant_id": f"g{number}"}, account=account, command_id=f"v{number}")
        case "tick":
            return dict(TICK)
        case _:
            images = draw(st.integers(1, 4))
            return usage("image_analysis", account=account, event_id=f"e{number}", images=images)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    log: list[Record] = []
    at: int = NOON
    for offset, event in enumerate(
        [
            *(open_account(account=each, command_id="o") for each in ACCOUNTS[:2]),
            *draw(st.lists(events(), max_size=40)),
        ]
    ):
        at += draw(st.sampled_from([0, 1, HOUR_MS, 10 * HOUR_MS]))
        log.append(record(event, offset=offset, at=at))
    return log


@st.composite
def corrections(draw: st.DrawFn, used: list[tuple[int, str]], *, command_id: str, at: int) -> dict[str, Any]:
    """Of usage in the log, newer or older."""
    offset, account = draw(st.sampled_from(used[-2:]))
    data: dict[str, Any] = {"record": {"partition": 0, "offset": 0, "event_offset": offset}}
    name = draw(st.sampled_from(["reverse", "reverse", "reverse", "rerate"]))
    if name == "rerate":
        data["price_book"] = "2026-01"
    elif draw(st.booleans()):
        data["credits"] = draw(st.sampled_from(["0.5", "1", "3"]))
    return command(name, data, account=account, command_id=command_id, at=at)


@st.composite
def corrected_logs(draw: st.DrawFn) -> list[Record]:
    """With overage, and with charges that are taken back and rated again, too often and too much among them, also when
    their period has ended."""
    begin: list[dict[str, Any]] = []
    for each in ACCOUNTS:
        begin.append(open_account("prepaid", account=each, command_id="o"))
        begin.append(issue_grant("3", grant_id="first", account=each))
        begin.append(command("configure", {"overage_ceiling": "9"}, account=each, command_id="s"))
    log = [record(event, offset=offset) for offset, event in enumerate(begin)]
    used: list[tuple[int, str]] = []
    at: int = NOON
    for event in draw(st.lists(events(), max_size=20)):
        at += draw(st.sampled_from([0, 1, HOUR_MS, 740 * HOUR_MS]))
        if ".usage." in event["type"]:
            event["time"] = format_instant(at)
            used.append((len(log), event["subject"]))
        log.append(record(event, offset=len(log), at=at))
        for _ in range(draw(st.integers(0, 3)) if used else 0):
            correction = draw(corrections(used, command_id=f"c{len(log)}", at=at))
            log.append(record(correction, offset=len(log), at=at))
    return log


def played(log: list[Record]) -> Partition:
    partition = Partition()
    partition.apply(partition.run(log))
    return partition


def states(partition: Partition) -> dict[str, Any]:
    return {key.decode(): decode_account(key.decode(), row) for key, row in partition.accounts.items()}  # type: ignore[arg-type]


@given(logs() | corrected_logs())
def test_the_balance_is_the_sum_of_the_entries_and_of_what_is_left_in_the_grants(log: list[Record]) -> None:
    partition = played(log)

    sums: dict[str, int] = defaultdict(int)
    for entry in partition.of("ledger"):
        sums[entry["account_id"]] += parse_credits(entry["credits"])
        assert parse_credits(entry["balance_after"]) == sums[entry["account_id"]] >= 0
        assert abs(parse_credits(entry["credits"])) == sum(
            parse_credits(each["credits"]) for each in entry["grants"]
        )
    for account_id, account in states(partition).items():
        assert account.posted == sums[account_id] == sum(account.remaining)
        opening, granted, used, expired, voided, overage, taken_back, returned = account.totals
        moved = granted + overage + taken_back - used - expired - voided - returned
        assert opening + moved == account.posted
        assert min(account.totals) >= 0
        assert all(
            0 <= left <= each.credits for each, left in zip(account.grants, account.remaining, strict=True)
        )


@given(logs())
def test_every_record_of_the_log_has_exactly_one_outcome(log: list[Record]) -> None:
    partition = played(log)

    outcomes = sorted(
        each["offset"]
        for topic in ("metered-records", "command-results", "dead-letters")
        for each in partition.of(topic)
    )
    ticks = {each.offset for each in log if b"org.apimage.tick" in (each.value or b"")}
    assert outcomes == [each.offset for each in log if each.offset not in ticks]


@given(corrected_logs())
def test_statements_add_up_and_owe_nothing_below_zero(log: list[Record]) -> None:
    partition = played(log)
    partition.fold(TICK, at=log[-1].timestamp + 740 * HOUR_MS)

    for each in partition.of("statements"):
        names = ("granted", "overage", "reversed", "used", "expired", "voided", "overage_returned")
        granted, overage, taken_back, *less = (parse_credits(each[name]) for name in names)
        opening, closing = parse_credits(each["opening"]), parse_credits(each["closing"])
        assert opening + granted + overage + taken_back - sum(less) == closing
        assert min(opening, granted, overage, taken_back, *less, closing) >= 0


@given(logs(), st.data())
def test_resends_anywhere_after_the_first_copy_change_nothing(log: list[Record], data: st.DataObject) -> None:
    first = played(log)
    answered = {
        each["offset"] for topic in ("metered-records", "command-results") for each in first.of(topic)
    }
    disturbed: list[Record] = []
    sent: list[Record] = []  # What was answered: a dead letter may be mended and sent again.
    for each in log:
        disturbed.append(each)
        sent += [each] if each.offset in answered else []
        if data.draw(st.booleans()) and sent:
            disturbed.append(data.draw(st.sampled_from(sent))._replace(timestamp=each.timestamp))
    # In the end time passes for everybody: a resend also lets it pass for its account.
    end = record(TICK, offset=len(log), at=log[-1].timestamp)
    log, disturbed = [*log, end], [*disturbed, end]
    disturbed = [each._replace(offset=offset) for offset, each in enumerate(disturbed)]

    once, twice = states(played(log)), states(played(disturbed))
    assert {name: (a.posted, a.remaining, a.entry_seq) for name, a in twice.items()} == {
        name: (a.posted, a.remaining, a.entry_seq) for name, a in once.items()
    }


@given(corrected_logs())
def test_no_more_is_taken_back_than_was_charged_and_records_say_what_entries_say(log: list[Record]) -> None:
    partition = played(log)

    costs: dict[int, int] = defaultdict(int)
    for each in partition.of("metered-records"):
        charge = each["first_offset"] if each["outcome"] == "reversed" else each["offset"]
        costs[charge] += parse_credits(
            each["rated_credits"] if each["outcome"] == "rerated" else each["credits"]
        )
    assert all(cost >= 0 for cost in costs.values())
    said: dict[int, int] = defaultdict(int)
    entered: dict[int, int] = defaultdict(int)
    for each in partition.of("metered-records"):
        said[each["offset"]] += parse_credits(each["credits"])
    for each in partition.of("ledger"):
        if each["kind"] in {"usage", "reversal"}:
            entered[each["offset"]] -= parse_credits(each["credits"])
    assert {each: cost for each, cost in said.items() if cost} == {
        each: cost for each, cost in entered.items() if cost
    }


@given(logs() | corrected_logs(), st.data())
def test_a_log_in_pieces_gives_the_same_bytes_as_in_one(log: list[Record], data: st.DataObject) -> None:
    whole, pieces = played(log), Partition()
    rest = log
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces.apply(pieces.run(rest[:size]))
        rest = rest[size:]

    assert pieces.accounts == whole.accounts
    assert pieces.published == whole.published
    assert pieces.identities == whole.identities
    assert pieces.cursor == whole.cursor
    for topic in ("metered-records", "ledger-entries", "command-results", "dead-letters"):
        assert pieces.of(topic) == whole.of(topic)


@given(logs() | corrected_logs())
def test_the_cursors_digest_is_that_of_the_rows(log: list[Record]) -> None:
    partition = played(log)

    assert partition.cursor is not None
    rows = partition.accounts | partition.published
    assert partition.cursor.digest == sum(row_digest(*each) for each in rows.items()) % 2**128


@given(logs() | corrected_logs())
def test_every_row_reads_back_as_it_was_written(log: list[Record]) -> None:
    partition = played(log)

    for key, row in partition.accounts.items():
        assert encode_account(decode_account(key.decode(), row)) == row  # type: ignore[arg-type]
        assert orjson.loads(row)["v"] == 1


@given(logs() | corrected_logs())
def test_the_chain_of_each_account_has_no_gap(log: list[Record]) -> None:
    last: dict[str, tuple[int, str]] = {}
    for entry in played(log).of("ledger"):
        seq, entry_hash = last.get(entry["account_id"], (0, FIRST_HASH))
        assert (entry["entry_seq"], entry["previous_hash"]) == (seq + 1, entry_hash)
        last[entry["account_id"]] = (entry["entry_seq"], entry["entry_hash"])


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.none() | st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=8
    ),
    st.data(),
)
def test_no_credit_is_taken_from_a_grant_while_one_before_it_has_any(
    terms: list[tuple[int, int | None, int]], data: st.DataObject
) -> None:
    grants = sorted(
        [
            grant(f"g{n}", str(size), priority=priority, expires_at=None if days is None else NOON + days)
            for n, (priority, days, size) in enumerate(terms)
        ],
        key=burn_order,
    )
    amount = Credits(data.draw(st.integers(1, sum(each.credits for each in grants))))

    left, shares = burn_down(grants, [each.credits for each in grants], amount)

    assert sum(share.credits for share in shares) == amount
    touched = [each.credits - rest for each, rest in zip(grants, left, strict=True)]
    assert all(rest == 0 for rest in left[: max(n for n, taken in enumerate(touched) if taken)])
