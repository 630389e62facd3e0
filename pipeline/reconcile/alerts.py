"""Alerts: each once, and none below its own threshold. That they stand in ClickHouse is compared with all rows."""

from dataclasses import dataclass, field
from typing import Any

from pipeline.reconcile.chain import micros
from pipeline.reconcile.report import Difference, Findings, Kind
from schemas.topics import ACCOUNT_ALERTS


@dataclass(slots=True, kw_only=True)
class Alerts:
    """Reads the alerts of one partition in their order. Memory grows by their ids."""

    findings: Findings
    seen: set[str] = field(default_factory=set[str])

    def read(self, record: dict[str, Any]) -> None:
        """The next alert of the topic."""
        name, threshold = record["alert_id"], record["threshold"]
        if name in self.seen:
            self._differ(record, "an alert once", "the same alert again")
        self.seen.add(name)
        used, base = micros(record["used"]), micros(record["base"])
        if threshold is not None and used * 100 < threshold * base:
            self._differ(record, f"at least {threshold} % used", f"{record['used']} used of {record['base']}")

    def _differ(self, record: dict[str, Any], expected: str, found: str) -> None:
        self.findings.add(
            Difference(
                kind=Kind.ALERT_DIFFERS,
                where=ACCOUNT_ALERTS,
                partition=record["partition"],
                offset=record["offset"],
                account_id=record["account_id"],
                event_id=record["alert_id"],
                expected=expected,
                found=found,
            )
        )
