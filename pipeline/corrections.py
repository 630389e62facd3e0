"""Finds the metered record that a correction must name: from what ClickHouse knows of it to its place in Kafka."""

from decimal import Decimal
from typing import Any

import orjson

from pipeline.clickhouse import Client
from pipeline.domain.instants import parse_instant
from pipeline.query.explanation import explain
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.topics import METERED_RECORDS

CHARGES = frozenset({"metered", "rerated"})


def charges_of(client: Client, event_id: str, *, account: str) -> list[dict[str, Any]]:
    """The charges with this event id, each with `taken_back`: what was taken back of it, as far as is stored."""
    records = explain(client, event_id, account=account).metered
    charges = [each for each in records if each["outcome"] in CHARGES and each["rated_credits"] != "0"]
    return [{**charge, "taken_back": _taken_back(charge, records)} for charge in charges]


def _taken_back(charge: dict[str, Any], records: list[dict[str, Any]]) -> Decimal:
    names = ("account_id", "partition", "source")
    later = [
        each
        for each in records
        if each["first_offset"] == charge["offset"] and all(each[name] == charge[name] for name in names)
    ]
    if any(each["outcome"] == "rerated" and each["offset"] != charge["offset"] for each in later):
        return Decimal(charge["rated_credits"])
    return -sum((Decimal(each["credits"]) for each in later if each["outcome"] == "reversed"), Decimal(0))


def record_place(settings: Settings, charge: dict[str, Any]) -> dict[str, int] | None:
    """Where the metered record of a charge stands; None when Kafka does not keep it any more."""
    log, partition = Log(settings.kafka), charge["partition"]
    try:
        at = parse_instant(charge["accepted_at"])
        _, high = log.bounds(METERED_RECORDS, partition)
        start = log.offset_at(METERED_RECORDS, partition, at, high)
        for message in log.messages(METERED_RECORDS, partition, start=start):
            if message.timestamp()[1] > at:
                return None
            if orjson.loads(message.value() or b"{}")["offset"] == charge["offset"]:
                return {
                    "partition": partition,
                    "offset": message.offset() or 0,
                    "event_offset": charge["offset"],
                }
    finally:
        log.close()
    return None
