"""Outcomes to records: the key and the bytes of everything the core says. Shapes: the models in `schemas/`.

Top-level names of metered records, ledger entries, balances and dead letters are ClickHouse's columns: the sink
passes these bytes through. Encoded once, by hand, because this is most of what an event costs.
"""

from pipeline.emit.accounts import (
    account_alert,
    account_balance,
    account_statement,
    ledger_entry,
    topup_order,
)
from pipeline.emit.commands import (
    command_repeated,
    command_result,
    publication_repeated,
    publication_result,
)
from pipeline.emit.dead_letters import dead_letter
from pipeline.emit.records import OutRecord, Place
from pipeline.emit.usage import denied, duplicate, metered, rerated_usage, reversed_usage

__all__ = [
    "OutRecord",
    "Place",
    "account_alert",
    "account_balance",
    "account_statement",
    "command_repeated",
    "command_result",
    "dead_letter",
    "denied",
    "duplicate",
    "ledger_entry",
    "metered",
    "publication_repeated",
    "publication_result",
    "rerated_usage",
    "reversed_usage",
    "topup_order",
]
