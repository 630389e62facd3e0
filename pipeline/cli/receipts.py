"""A charge explained in words: what was used, by which prices, paid by which grants, and where it stands."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.query.explanation import Explanation

_REASONS: Final = {
    "insufficient_credits": "the account had less than this costs; the whole request was refused",
    "credits_exhausted": "the account had no credits left",
    "plan_paused": "the free plan's credits are used up: paused until the next period",
    "account_closed": "the account was closed",
}


_OVERAGE: Final = "overage"
"""In the place of a grant."""
_BEYOND: Final = " beyond all grants, billed with the period"


def receipt_lines(record: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A metered record in words. `entries` are those that it posted to the ledger."""
    yield f"{record['event_id']}  {record['service']}  {record['outcome']}"
    yield f"  account   {record['account_id']}"
    yield f"  said by   {record['source']}, channel {record['channel']}"
    yield f"  happened  {record['occurred_at']}, accepted {record['accepted_at']}"
    yield from _charge(record)
    for entry in entries:
        yield (
            f"  ledger    entry {entry['entry_seq']} of the account: {entry['kind']} {entry['credits']}, "
            f"hash {entry['entry_hash']}"
        )
    yield f"  log       partition {record['partition']}, offset {record['offset']}"


def _charge(record: Mapping[str, Any]) -> Iterator[str]:
    receipt = record["receipt"]
    if record["outcome"] == "reversed":
        amount = record["credits"].removeprefix("-")
        yield f"  taken back {amount} credits of the charge at offset {record['first_offset']}"
        return
    if receipt is None:  # A duplicate: the first copy has the receipt.
        was = record["reason"] if record["reason"] != "duplicate" else f"{record['rated_credits']} credits"
        yield f"  charged   nothing again: the same event stands at offset {record['first_offset']} ({was})"
        return
    inputs = ", ".join(f"{name} {_shown(value)}" for name, value in receipt["inputs"].items())
    yield f"  inputs    {inputs or 'none that decide the price'}"
    yield f"  prices    price book {record['price_book']}"
    for step in receipt["steps"]:
        yield f"            {step['rule']}: {step['detail']} → {step['credits_per_image']} an image"
    total = record["rated_credits"]
    if record["outcome"] == "rerated":
        yield f"  instead   of the charge at offset {record['first_offset']}: {record['credits']} credits more"
    yield f"  costs     {receipt['credits_per_image']} × {receipt['images']} image(s) = {total} credits"
    if record["outcome"] == "denied":
        yield f"  denied    {record['reason']}: {_REASONS.get(record['reason'], '')}"
        yield f"            nothing charged; the balance was {record['balance_after']}"
        shortage = receipt.get("shortage")
        if shortage:
            yield f"            {shortage['available']} was available; the period resets {shortage['resets_at']}"
        return
    for share in receipt["grants"]:
        name = share["grant_id"]
        yield f"  paid by   {name}: {share['credits']}" + (_BEYOND if name == _OVERAGE else "")
    yield f"  balance   {receipt['balance_before']} → {receipt['balance_after']}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def dead_letter_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """A dead letter in words."""
    yield f"{record['event_id'] or '(no id)'}  dead letter  {record['reason']}"
    yield f"  account   {record['account_id'] or '(none that could be read)'}"
    yield f"  why       {record['detail']}" + (f" at {record['pointer']}" if record["pointer"] else "")
    yield f"  accepted  {record['accepted_at']}"
    yield f"  log       partition {record['partition']}, offset {record['offset']}: nothing charged, kept whole"


def explanation_lines(found: "Explanation") -> Iterator[str]:
    """Everything that is known of an id, in words."""
    for record in found.metered:
        yield from receipt_lines(record, found.entries_of(record))
    for letter in found.dead_letters:
        yield from dead_letter_lines(letter)
    posted = {
        (entry["account_id"], entry["entry_seq"])
        for record in found.metered
        for entry in found.entries_of(record)
    }
    for entry in found.entries:
        if (entry["account_id"], entry["entry_seq"]) not in posted:  # A command's.
            yield f"{entry['cause_id']}  ledger entry  {entry['kind']}"
            yield f"  account   {entry['account_id']}, entry {entry['entry_seq']}"
            yield f"  credits   {entry['credits']}, balance {entry['balance_after']}, booked {entry['booked_at']}"
