"""Price books and plans: the content is what its cursor says, and all partitions that need a version have it."""

from collections.abc import Sequence

from pipeline.reconcile.report import Difference, Findings, Kind
from pipeline.reconcile.table import Table


def check_schedules(tables: Sequence[Table], findings: Findings) -> None:
    """A version is late in a partition whose clock has passed its beginning: until then it may be under way."""
    begun = [table for table in tables if table.next_offset]
    everywhere = {
        key: version for table in sorted(begun, key=_by_number) for key, version in table.versions.items()
    }
    for table in begun:
        for key, (sha256, _) in table.versions.items():
            found = table.contents.get(key, "no row")
            if found != sha256:
                _differ(findings, table, key, f"content with SHA-256 {sha256}", found)
        for key, (sha256, effective_from) in everywhere.items():
            own = table.versions.get(key)
            if own is None and effective_from <= table.clock_ms:
                _differ(findings, table, key, f"SHA-256 {sha256}, as in other partitions", "no such version")
            elif own is not None and own != (sha256, effective_from):
                _differ(
                    findings, table, key, f"SHA-256 {sha256}, as in other partitions", f"SHA-256 {own[0]}"
                )


def _by_number(table: Table) -> int:
    return table.partition


def _differ(findings: Findings, table: Table, key: str, expected: str, found: str) -> None:
    findings.add(
        Difference(
            kind=Kind.SCHEDULE_DIFFERS,
            where="changelog",
            partition=table.partition,
            offset=-1,
            account_id="",
            event_id=key,
            expected=expected,
            found=found,
        )
    )
