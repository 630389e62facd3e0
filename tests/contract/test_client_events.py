"""What the producers' client writes: CloudEvents to the SDK, usage to our gate; and what it needs to be imported."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudevents.core.bindings import kafka

from pipeline import client as sdk
from pipeline.client.events import STRUCTURED_MODE
from pipeline.client.spool import SUFFIX, Entry, read_lines
from pipeline.domain.usage import UsageEvent
from pipeline.kafka_settings import KafkaSettings
from tests.builders import NOON, Record
from tests.contract.examples import parsed

NOBODY = KafkaSettings(bootstrap_servers="127.0.0.1:1")
INSTALLED = {
    *("pipeline", "schemas", "confluent_kafka", "pydantic"),
    *("pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"),  # What pydantic brings.
}
USAGE = [
    sdk.image_generation(quality="high", width=1024, height=1536, images=4, model="painter-2"),
    sdk.image_generation(quality="low", width=64, height=64, transparent_background=True, channel="web"),
    sdk.background_removal(images=10, format="png"),
    sdk.background_removal(),
    sdk.image_analysis(languages=("en", "de"), note="Größe ✓ \n\u2028"),
    sdk.upscaling(output_width=2048, output_height=2048, images=3),
    sdk.post_processing(output_width=2048, output_height=2048),
    sdk.transparent_background(images=2),
]
INVALID = {
    "no pixels": ("acct", sdk.image_generation(quality="high", width=0, height=64)),
    "no images": ("acct", sdk.background_removal(images=0)),
    "another account id": ("no such/account", sdk.background_removal()),
    "no JSON": ("acct", sdk.background_removal(why={1, 2})),
    "no number": ("acct", sdk.background_removal(why=float("nan"))),
    "no UTF-8": ("acct", sdk.background_removal(why="\ud800")),
    "too large": ("acct", sdk.background_removal(why="x" * 300_000)),
    "no service": ("acct", sdk.Usage("faxing", {})),  # type: ignore[arg-type]
}


def client(spool: Path, on_invalid: str = "refuse") -> sdk.UsageClient:
    values = {
        "source": "/services/images",
        "kafka": NOBODY,
        "spool_directory": spool,
        "on_invalid": on_invalid,
    }
    return sdk.UsageClient(sdk.ClientOptions.model_validate({**values, "spool_after_ms": 50}))


def written(spool: Path) -> list[Entry]:
    return [
        entry for path in sorted(spool.glob(f"*{SUFFIX}")) for entry in read_lines(path.read_bytes()).entries
    ]


def test_every_event_of_the_client_is_a_cloudevent_to_the_sdk_and_usage_to_the_gate(tmp_path: Path) -> None:
    at = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
    with client(tmp_path) as recording:
        ids = [recording.record("acct", usage, time=at).event_id for usage in USAGE]
    entries = written(tmp_path)
    assert len(entries) == len(USAGE)
    headers = {name: value for name, value in STRUCTURED_MODE if isinstance(value, bytes)}
    for usage, event_id, entry in zip(USAGE, ids, entries, strict=True):
        theirs = kafka.from_kafka_event(kafka.KafkaMessage(headers, entry.key, entry.value))
        assert (theirs.get_id(), theirs.get_source(), theirs.get_subject()) == (
            event_id,
            "/services/images",
            "acct",
        )
        assert theirs.get_type() == f"org.apimage.usage.{usage.service}.v1"
        assert (theirs.get_time(), theirs.get_data()) == (at, usage.data)
        ours = parsed(Record(0, NOON, entry.key, entry.value, list(headers.items())))
        assert isinstance(ours, UsageEvent), ours
        assert (ours.service, ours.event_id, ours.account_id) == (usage.service, event_id, "acct")


@pytest.mark.parametrize(("account", "usage"), INVALID.values(), ids=INVALID)
def test_what_would_be_a_dead_letter_is_refused_and_raises_only_where_it_is_asked_to(
    account: str, usage: sdk.Usage, tmp_path: Path
) -> None:
    with client(tmp_path) as recording:
        error = recording.record(account, usage).acknowledged.exception(0)
        assert isinstance(error, sdk.NotRecordedError)
        assert error.reason == "invalid_event"
        assert recording.stats().refused == {"invalid_event": 1}
    with client(tmp_path, on_invalid="raise") as recording, pytest.raises(sdk.NotRecordedError):
        recording.record(account, usage)
    assert not written(tmp_path)


def test_a_local_time_is_refused_because_it_names_no_instant(tmp_path: Path) -> None:
    with client(tmp_path) as recording:
        local = recording.record("acct", sdk.background_removal(), time=datetime(2026, 11, 23, 12))  # noqa: DTZ001
        assert isinstance(local.acknowledged.exception(0), sdk.NotRecordedError)


def test_the_client_needs_confluent_kafka_and_pydantic_and_nothing_else() -> None:
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        is_ours = name.startswith("_") or name.endswith("__mypyc")  # The compiled core, where there is one.
        if not is_ours and name.partition(".")[0] not in sys.stdlib_module_names | {INSTALLED!r}:
            raise ImportError(f"{{name}} is not there for a producer")

sys.meta_path.insert(0, Blocker())
import pipeline.client
print("imported")
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == "imported\n"
