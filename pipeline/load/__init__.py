"""A deterministic load: the same plan gives the same bytes, for the demo, the bench, chaos and the audit."""

from pipeline.load.file import read_records, write_records
from pipeline.load.generate import CommandKey, LoadPlan, LoadRecord, generate

__all__ = ["CommandKey", "LoadPlan", "LoadRecord", "generate", "read_records", "write_records"]
