"""The Kafka topics: names, keys, settings. The broker must equal this, or the programs refuse to start.

Partition counts are one number for all topics (`Settings.kafka.partitions`) and never change under a running
app: the source, the changelog and the sink's input of one account stand in the same partition number.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

ACCOUNT_EVENTS: Final = "metering.account-events.v1"
METERED_RECORDS: Final = "metering.metered-records.v1"
LEDGER_ENTRIES: Final = "metering.ledger-entries.v1"
ACCOUNT_BALANCES: Final = "metering.account-balances.v1"
ACCOUNT_STATEMENTS: Final = "metering.account-statements.v1"
COMMAND_RESULTS: Final = "metering.command-results.v1"
ACCOUNT_ALERTS: Final = "metering.account-alerts.v1"
ALERT_DELIVERIES: Final = "metering.alert-deliveries.v1"
TOPUP_ORDERS: Final = "metering.topup-orders.v1"
DEAD_LETTERS: Final = "metering.dead-letters.v1"
IDENTITIES: Final = "metering.identities.v1"
SINK_PLANS: Final = "metering.sink-plans.v1"
RECONCILE_MARKS: Final = "metering.reconcile-marks.v1"
API_KEYS: Final = "metering.api-keys.v1"
NOTIFICATION_SETTINGS: Final = "metering.notification-settings.v1"
NOTIFICATION_REQUESTS: Final = "metering.notification-requests.v1"
ADMIN_ACTIONS: Final = "metering.admin-actions.v1"

BATCH_OUTPUTS: Final = (
    METERED_RECORDS,
    LEDGER_ENTRIES,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    ACCOUNT_ALERTS,
    TOPUP_ORDERS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
)
"""What a worker says of a batch, beside the identities and the changelog: each record names its cause by `offset`."""

RECORD_BYTES_MAX: Final = 4_194_304
"""Largest record on a topic that repeats producers' bytes (base64 grows them by a third)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic as it must be on the broker. `config` are Kafka's topic settings, checked at every start."""

    name: str
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None = None  # None for a compacted topic.
    config: dict[str, str] = field(default_factory=dict[str, str])


def changelog(app_id: str) -> str:
    """The changelog of the account table: state by account id, and the partition's cursor."""
    return f"{app_id}-accounts-changelog"


def topics(app_id: str, *, hot_window_hours: int) -> tuple[Topic, ...]:
    """Every topic of one deployment (without the name prefix that tests use)."""
    big = {"max.message.bytes": str(RECORD_BYTES_MAX)}
    log_days = 40  # At least 35: rebuild, what-if and audit read this far back; beyond it stands a snapshot.
    return (
        Topic(
            name=ACCOUNT_EVENTS,
            cleanup="delete",
            retention_ms=log_days * DAY_MS,
            # The broker's append time is the only clock that the rules see.
            config={"message.timestamp.type": "LogAppendTime"},
        ),
        Topic(name=METERED_RECORDS, cleanup="delete", retention_ms=log_days * DAY_MS, config=big),
        Topic(name=LEDGER_ENTRIES, cleanup="delete", retention_ms=log_days * DAY_MS),
        Topic(name=ACCOUNT_BALANCES, cleanup="compact"),
        Topic(name=ACCOUNT_STATEMENTS, cleanup="delete", retention_ms=log_days * DAY_MS),
        Topic(name=COMMAND_RESULTS, cleanup="delete", retention_ms=7 * DAY_MS),
        Topic(name=ACCOUNT_ALERTS, cleanup="delete", retention_ms=7 * DAY_MS),
        # Its open deliveries are the notifier's memory; the oldest of them is younger than any try may be.
        Topic(name=ALERT_DELIVERIES, cleanup="delete", retention_ms=log_days * DAY_MS),
        Topic(name=TOPUP_ORDERS, cleanup="delete", retention_ms=log_days * DAY_MS),
        Topic(name=DEAD_LETTERS, cleanup="delete", retention_ms=log_days * DAY_MS, config=big),
        Topic(
            name=IDENTITIES,
            cleanup="delete",
            # Two days more than the window: a worker that was away for a night still finds every identity.
            retention_ms=hot_window_hours * HOUR_MS + 2 * DAY_MS,
            config=big,
        ),
        Topic(name=SINK_PLANS, cleanup="compact"),
        Topic(name=RECONCILE_MARKS, cleanup="compact"),
        Topic(name=API_KEYS, cleanup="compact"),
        Topic(name=NOTIFICATION_SETTINGS, cleanup="compact"),
        Topic(name=NOTIFICATION_REQUESTS, cleanup="delete", retention_ms=7 * DAY_MS),
        # Who did what by the gateway: for as long as a year's accounts are looked into.
        Topic(name=ADMIN_ACTIONS, cleanup="delete", retention_ms=400 * DAY_MS),
        Topic(
            name=changelog(app_id),
            cleanup="compact",
            config={
                "min.compaction.lag.ms": str(HOUR_MS),
                "delete.retention.ms": str(7 * DAY_MS),
                **big,
            },
        ),
    )
