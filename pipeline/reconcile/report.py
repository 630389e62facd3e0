"""What reconcile found: totals by partition, and every difference by name, account, event and position."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

DIFFERENCES_LISTED_MAX: Final = 1000
"""Differences that a report spells out; all are counted."""


class Kind(StrEnum):
    """The closed list of differences."""

    NO_OUTCOME = "no_outcome"
    OUTCOME_DOUBLED = "outcome_doubled"
    OUTCOME_WITHOUT_INPUT = "outcome_without_input"
    OUT_OF_ORDER = "out_of_order"
    ROW_MISSING = "row_missing"
    ROW_DOUBLED = "row_doubled"
    ROW_ALTERED = "row_altered"
    ROW_UNKNOWN = "row_unknown"
    CHAIN_BROKEN = "chain_broken"
    CHARGE_WITHOUT_CAPTURE = "charge_without_capture"
    CHARGE_WITHOUT_ENTRY = "charge_without_entry"
    BALANCE_DIFFERS = "balance_differs"
    STATEMENT_DIFFERS = "statement_differs"
    ALERT_DIFFERS = "alert_differs"
    TOPUP_DIFFERS = "topup_differs"
    TABLE_DIGEST = "table_digest"
    SCHEDULE_DIFFERS = "schedule_differs"
    ROLLUP_DIFFERS = "rollup_differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it must be. `where` is the topic or table that was looked at."""

    kind: Kind
    where: str
    partition: int
    offset: int
    """Of the input record it is about; -1 where it is about no single one."""
    account_id: str
    event_id: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReport:
    partition: int
    watermark: int
    """Everything before this input offset was compared."""
    equal_up_to: int
    """Before this input offset nothing differs."""
    records: int
    """Of the input log, ticks included."""
    accounts: int
    outcomes: Mapping[str, int]
    """What became of each record, so that they add up to `records`; of an accepted capture that is `accepted`."""
    charged_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    partitions: tuple[PartitionReport, ...]
    outcomes: Mapping[str, int]
    records: int
    accounts: int
    charged_micros: int
    differences: tuple[Difference, ...]
    differences_total: int
    counts: Mapping[str, int]
    """Differences by kind."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.differences_total == 0


@dataclass(slots=True)
class Findings:
    """Collects differences of one run: the first ones whole, all by number."""

    listed_max: int = DIFFERENCES_LISTED_MAX
    listed: list[Difference] = field(default_factory=list[Difference])
    counts: Counter[str] = field(default_factory=Counter[str])
    first_offset: dict[int, int] = field(default_factory=dict[int, int])
    """Partition → the lowest input offset at which something differs."""

    def add(self, difference: Difference) -> None:
        self.counts[difference.kind] += 1
        lowest = self.first_offset.get(difference.partition, difference.offset)
        self.first_offset[difference.partition] = min(lowest, max(difference.offset, 0))
        if len(self.listed) < self.listed_max:
            self.listed.append(difference)
