"""What a broker takes as a header's name, a worker can read."""

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from pipeline.stream.records import AnyRecords
from tests.raw_names import Raw


def batch(*names: str, compression: int = 0) -> bytes:
    """One record for each header's name, as a broker stores them."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=100_000,
    )  # fmt: skip
    for offset, name in enumerate(names):
        builder.append(offset, 1000 + offset, b"acme", b"%d" % offset, [(name, b"value")])
    return bytes(builder.build())


def read(fetched: bytes) -> list[tuple[int, bytes, list[tuple[str, bytes | None]]]]:
    records = AnyRecords(fetched)
    found = []
    while records.has_next():
        each = records.next_batch()
        assert each.validate_crc()
        found += [(record.offset, record.value, list(record.headers)) for record in each]
    return found


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_a_header_whose_name_is_no_text_hides_no_record(compression: int) -> None:
    fetched = batch("a", Raw(b"\xff\xfe"), "ü", compression=compression) + batch("later")

    assert read(fetched) == [
        (0, b"0", [("a", b"value")]),
        (1, b"1", []),
        (2, b"2", [("ü", b"value")]),
        (0, b"0", [("later", b"value")]),
    ]


def test_what_is_corrupt_stays_corrupt() -> None:
    fetched = bytearray(batch("name"))
    fetched[-12] = 0x7F  # The length of the header's name.
    records = AnyRecords(bytes(fetched))

    with pytest.raises((CorruptRecordException, ValueError, IndexError)):
        list(records.next_batch())
