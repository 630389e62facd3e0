"""Upgrade and rollback of the state: rows of earlier releases load, and go on; what is newer is read or refused.

`changelog/*.json` are rows as releases wrote them, named by the commit: 6765c34 the first with published content in the
table, 62c90d6 before reversals, a63239f before top-ups. They are never made anew.
"""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.boundaries import Boundaries
from pipeline.domain.usage import AccountId
from pipeline.metering import Batch, PartitionView
from pipeline.state import (
    DIGEST_MODULUS,
    RESERVED_KEYS,
    decode_account,
    decode_cursor,
    encode_account,
    next_boundary_ms,
    row_digest,
)
from tests import builders
from tests.builders import Partition, command, open_account, record, usage

RELEASES = sorted((Path(__file__).parent / "changelog").glob("*.json"))


def written(path: Path) -> tuple[bytes, dict[bytes, bytes]]:
    """The cursor, and the rows by their keys."""
    file: dict[str, Any] = json.loads(path.read_text())
    return file["cursor"].encode(), {key.encode(): row.encode() for key, row in file["rows"].items()}


@pytest.mark.parametrize("path", RELEASES, ids=[path.stem for path in RELEASES])
def test_a_table_of_an_earlier_release_loads_and_is_gone_on_from(path: Path) -> None:
    stored, rows = written(path)
    cursor = decode_cursor(stored)
    assert sum(row_digest(key, row) for key, row in rows.items()) % DIGEST_MODULUS == cursor.digest
    published = {key: rows.pop(key) for key in list(rows) if key.startswith(RESERVED_KEYS)}
    for key, row in rows.items():
        account = decode_account(AccountId(key.decode()), row)
        again = decode_account(AccountId(key.decode()), encode_account(account))
        assert again == account
    boundaries = Boundaries((key, next_boundary_ms(row)) for key, row in rows.items())
    view = PartitionView(
        partition=0,
        cursor=cursor,
        published=published,
        accounts=rows,
        identities={},
        due_accounts=boundaries.due,
    )
    at = cursor.clock_ms + 40 * 86_400_000  # Periods end, holds and grants expire, statements are made.
    events = [
        usage(account=key.decode(), event_id=f"later-{number}", at=at)
        for number, key in enumerate(sorted(rows))
    ]
    batch = Batch(builders.core(), view)
    batch.feed([record(each, offset=cursor.next_offset + place, at=at) for place, each in enumerate(events)])
    folded = batch.finish()
    assert folded.accounts.keys() == {key for key, row in rows.items() if not orjson.loads(row)["closed"]}
    after = {**rows, **published, **folded.accounts, **folded.published}
    assert sum(row_digest(key, row) for key, row in after.items()) % DIGEST_MODULUS == folded.cursor.digest


def test_what_a_newer_release_adds_is_passed_over_and_another_version_is_refused() -> None:
    partition = Partition()
    partition.fold(open_account())
    row = orjson.loads(partition.accounts[b"acct"])
    account = decode_account(AccountId("acct"), orjson.dumps(row))
    assert decode_account(AccountId("acct"), orjson.dumps(row | {"of_tomorrow": [1]})) == account
    with pytest.raises(ValueError, match="expected row of 'acct' in version 1 in the changelog, got 2"):
        decode_account(AccountId("acct"), orjson.dumps(row | {"v": 2}))


def test_two_versions_of_events_and_commands_live_side_by_side() -> None:
    """An old producer, one that says more, and one of a version that is not known yet; commands alike."""
    partition = Partition()
    partition.fold(open_account("starter"))
    more = usage(event_id="more", of_tomorrow={"x": 1}) | {
        "traceparent": "00-1-1-01",
        "dataschema": "urn:v1.1",
    }
    newer = usage(event_id="newer") | {"type": "org.apimage.usage.image_generation.v2"}
    grant = {"grant_id": "pack", "kind": "prepaid", "credits": "5"}
    said = partition.fold(
        usage(event_id="old"),
        more,
        newer,
        usage(event_id="old", of_tomorrow=2),
        command("grant", grant, command_id="g1"),
        command("grant", grant | {"grant_id": "other", "of_tomorrow": 1}, command_id="g2"),
    )
    told = [
        (
            each.get("event_id") or each.get("command_id"),
            each.get("outcome", "dead_letter"),
            each.get("reason", ""),
        )
        for each in said
        if "entry_seq" not in each or "event_id" in each
    ]
    assert told == [
        ("old", "metered", ""),
        ("more", "metered", ""),
        ("newer", "dead_letter", "unknown_type"),
        ("old", "dead_letter", "conflict"),
        ("g1", "accepted", ""),
        ("g2", "dead_letter", "invalid_data"),
    ]
    assert partition.of("metered-records")[1]["attributes"] == {"of_tomorrow": {"x": 1}}
