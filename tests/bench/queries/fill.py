"""Fills the tables with records of a made-up fleet: `INSERT … SELECT FROM numbers()`, so that millions take minutes.

Through the tables and materialized views that the sink fills, in order of time as the sink does. Record `number` says
everything else about itself by its hash, so the same plan gives the same rows, and a record can be found by its number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pipeline.clickhouse import Client
from tests.stack import wait_until

PARTITIONS: Final = 4
DAYS: Final = 60
"""Over which the records are spread evenly, up to now."""
DAY_MS: Final = 86_400_000
ROWS_AT_ONCE: Final = 1_000_000
RECORDS_AN_ACCOUNT: Final = 1000
"""On average. The account of rank n is used in proportion to 1/√n: of ten thousand the largest has 1 % of all."""
MERGE_SECONDS_MAX: Final = 900
INSERT: Final[dict[str, Any]] = {"max_insert_threads": 2, "send_progress_in_http_headers": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What stands in the tables."""

    records: int
    accounts: int
    until_ms: int

    @property
    def since_ms(self) -> int:
        return self.until_ms - DAYS * DAY_MS


# Every name below is used by the statements that follow; `number` is the record's.
_RECORD: Final = """
    cityHash64(number) AS seed,
    toUInt64({accounts:UInt64} * pow(cityHash64(seed, 'account') / 18446744073709551616., 2)) AS who,
    concat('account-', leftPad(toString(who), 7, '0')) AS of_account,
    lower(hex(sipHash128(number))) AS id,
    toDateTime64(fromUnixTimestamp64Milli(
        {since_ms:Int64} + toInt64(number * ({until_ms:Int64} - {since_ms:Int64}) / {records:UInt64})), 3, 'UTC') AS at,
    ['image_generation', 'image_generation', 'image_generation', 'image_generation', 'upscaling', 'upscaling',
     'background_removal', 'background_removal', 'image_analysis', 'post_processing'][1 + seed % 10] AS of_service,
    multiIf(cityHash64(seed, 'outcome') % 100 < 96, 'metered',
        cityHash64(seed, 'outcome') % 100 < 99, 'denied', 'duplicate') AS became,
    toUInt32(1 + cityHash64(seed, 'images') % 4) AS of_images,
    toDecimal64(of_images * (1 + cityHash64(seed, 'price') % 3), 6) AS costs,
    toDecimal64(1000 + cityHash64(seed, 'left') % 100000, 6) AS left,
    cityHash64(of_account) % 4 AS place
"""
_METERED: Final = f"""
INSERT INTO metered_records
    (account_id, event_id, source, service, outcome, reason, occurred_at, accepted_at, channel, images, credits,
     rated_credits, price_book, balance_after, partition, offset, partition_seq, entry_seq, first_offset, receipt,
     attributes)
WITH {_RECORD}
SELECT
    of_account, id, '/services/images', of_service, became,
    multiIf(became = 'denied', 'insufficient_credits', became = 'duplicate', 'duplicate', ''),
    at - INTERVAL 1 SECOND, at, if(seed % 3 = 0, 'web', 'api'), of_images, if(became = 'metered', costs, 0), costs,
    if(became = 'duplicate', '', '2026-01'), left, place, number, number + 1, if(became = 'metered', number + 1, 0),
    number, if(became = 'duplicate', '', concat(
        '{{"inputs":{{"quality":"medium","width":1024,"height":1024}},"steps":[{{"rule":"quality_by_size","detail":"',
        'medium quality, 1.048576 megapixels (at most 1.1 megapixels): ', toString(costs), ' per image",',
        '"credits_per_image":"',
        toString(costs), '"}}],"credits_per_image":"', toString(costs), '","images":', toString(of_images),
        ',"grants":[{{"grant_id":"monthly:2026-11-28","credits":"', toString(costs), '"}}],"balance_before":"',
        toString(left + costs), '","balance_after":"', toString(left), '"}}')),
    '{{}}'
FROM numbers({{first:UInt64}}, {{count:UInt64}})
"""
_ENTRIES: Final = f"""
INSERT INTO ledger_entries
    (account_id, entry_seq, kind, credits, balance_after, booked_at, accepted_at, cause_source, cause_id, grants,
     partition, offset, partition_seq, previous_hash, entry_hash)
WITH {_RECORD}
SELECT
    of_account, number + 1, if(cityHash64(seed, 'kind') % 100 = 0, 'overage', 'usage'),
    if(cityHash64(seed, 'kind') % 100 = 0, costs, -costs), left, at, at, '/services/images', id,
    [('monthly:2026-11-28', costs)], place, number, number + 1, lower(hex(sipHash128(number, 'before'))),
    lower(hex(sipHash128(number, 'entry')))
FROM numbers({{first:UInt64}}, {{count:UInt64}}) WHERE became = 'metered'
"""
_BALANCES: Final = """
INSERT INTO account_balances
    (account_id, plan, posted, held, available, grants, period_used, period_start, period_end, entry_seq, accepted_at,
     partition, offset, partition_seq)
WITH
    concat('account-', leftPad(toString(number), 7, '0')) AS of_account,
    toDecimal64(1000 + cityHash64(number) % 100000, 6) AS left,
    toDateTime64(fromUnixTimestamp64Milli({until_ms:Int64}), 3, 'UTC') AS at
SELECT
    of_account, 'enterprise', left, 0, left,
    [('monthly:2026-11-28', 'monthly', 10, left * 2, left, at - INTERVAL 20 DAY, at + INTERVAL 10 DAY)], left,
    at - INTERVAL 20 DAY, at + INTERVAL 10 DAY, {records:UInt64} + number, at, cityHash64(of_account) % 4,
    {records:UInt64} + number, {records:UInt64} + number + 1
FROM numbers({accounts:UInt64})
"""
_STATEMENTS: Final = """
INSERT INTO account_statements
    (account_id, plan, period_start, period_end, opening, granted, used, closing, accepted_at, partition, offset,
     partition_seq)
WITH
    toDateTime64(fromUnixTimestamp64Milli({until_ms:Int64}), 3, 'UTC') - toIntervalDay(30 * (number % 2) + 20) AS at
SELECT
    concat('account-', leftPad(toString(intDiv(number, 2)), 7, '0')), 'enterprise', at - INTERVAL 30 DAY, at, 0, 500,
    400, 100, at, 0, number, number + 1
FROM numbers({accounts:UInt64} * 2)
"""
_ALERTS: Final = """
INSERT INTO account_alerts
    (alert_id, account_id, kind, threshold, used, base, period_start, period_end, accepted_at, partition, offset,
     partition_seq)
WITH
    toDateTime64(fromUnixTimestamp64Milli({until_ms:Int64}), 3, 'UTC') - toIntervalDay(number % 60) AS at,
    concat('account-', leftPad(toString(intDiv(number, 3)), 7, '0')) AS of_account
SELECT
    concat(of_account, '/', toString(number)), of_account, 'threshold', 80 + number % 3, 400, 500, at - INTERVAL 20 DAY,
    at + INTERVAL 10 DAY, at, 0, number, number + 1
FROM numbers({accounts:UInt64} * 3)
"""
_SETTLED: Final = """
INSERT INTO usage_daily_settled
SELECT
    day, account_id, service, channel, outcome, sum(usage_daily.records), sum(usage_daily.images),
    sum(usage_daily.credits), sum(usage_daily.rated_credits),
    toDateTime64(fromUnixTimestamp64Milli({until_ms:Int64}), 3, 'UTC')
FROM usage_daily
WHERE day = toDate(fromUnixTimestamp64Milli({until_ms:Int64} - {ago:Int64} * 86400000))
GROUP BY day, account_id, service, channel, outcome
"""
_FIND: Final = f"""
WITH {_RECORD}
SELECT of_account, id FROM (SELECT arrayJoin({{numbers:Array(UInt64)}}) AS number)
"""


def fill(client: Client, fleet: Fleet, say: Callable[[str], None]) -> None:
    """Put the fleet's rows into empty tables, and wait until the server has merged what it wants to merge.

    The settled rollup is filled by hand, day by day: refreshed meanwhile, it would recompute all days at every turn.
    """
    client.command("SYSTEM STOP VIEW usage_daily_settled_mv")
    known = _parameters(fleet)
    for statement in (_BALANCES, _STATEMENTS, _ALERTS):
        client.command(statement, parameters=known)
    for first in range(0, fleet.records, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, fleet.records - first)
        for statement in (_METERED, _ENTRIES):
            client.command(statement, parameters={**known, "first": first, "count": count}, settings=INSERT)
        if first // ROWS_AT_ONCE % 10 == 9:
            say(f"{first + count:,} records")
    for ago in range(DAYS + 1):
        client.command(_SETTLED, parameters={**known, "ago": ago})
    wait_until("the server has merged", lambda: not _merges(client), MERGE_SECONDS_MAX)


def found(client: Client, fleet: Fleet, numbers: list[int]) -> list[tuple[str, str]]:
    """Account and event id of these records. Of random ones: accounts as often as they are used."""
    rows = client.query(_FIND, parameters={**_parameters(fleet), "numbers": numbers}).result_rows
    return [(str(account), str(event)) for account, event in rows]


def _parameters(fleet: Fleet) -> dict[str, int]:
    return {
        "accounts": fleet.accounts,
        "records": fleet.records,
        "since_ms": fleet.since_ms,
        "until_ms": fleet.until_ms,
    }


def _merges(client: Client) -> int:
    sql = "SELECT count() FROM system.merges WHERE database = currentDatabase()"
    return int(client.query(sql).result_rows[0][0])
