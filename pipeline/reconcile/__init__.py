"""Reconcile: Kafka's log = the table = ClickHouse, by ids and amounts, and a name for every difference.

Shares no code with the core, the stream or the sink: it reads what they wrote with its own eyes, so that the same
mistake would have to be made twice. What is compared, and with what, stands in `partition.py`.
"""

from pipeline.reconcile.report import Difference, Kind, PartitionReport, Report
from pipeline.reconcile.run import reconcile

__all__ = ["Difference", "Kind", "PartitionReport", "Report", "reconcile"]
