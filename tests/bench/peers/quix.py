"""Quix Streams round the same core, exactly once, as its guide teaches it: one function over each event, which says
several records, each to its topic.

State stands in dicts that no restart would survive, as the bare loop's does: that saves it RocksDB and changelogs of
its own. It wants an older confluent-kafka than we do, so it runs in an environment of its own (tests/bench/README.md).
`python -m tests.bench.peers.quix` runs it, with the same settings as the worker.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from quixstreams import Application, message_context
from quixstreams.models import Serializer, Topic

from pipeline.bootstrap import load_core
from pipeline.kafka import Logged, admin, topic_id, topic_name
from pipeline.metering import Batch, Core, Folded, initial_cursor
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, encode_cursor, pack_identities
from schemas.topics import ACCOUNT_EVENTS, IDENTITIES, changelog
from tests.bench.peers.state import PartitionState

COMMIT_EVERY: Final = 5000
"""Events to a transaction, as many as the worker's largest batch."""
COMMIT_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.05


class Said(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    timestamp: int


class _ValueOnly(Serializer):  # type: ignore[misc]  # as above
    def __call__(self, value: Said, ctx: object) -> bytes:
        del ctx
        return value.value


def create_app(settings: Settings) -> Application:
    """One application, one input, its outputs by name."""
    kafka, core = settings.kafka, load_core(settings)
    source_name = topic_name(kafka, ACCOUNT_EVENTS)
    app = Application(
        broker_address=kafka.bootstrap_servers,
        consumer_group=topic_name(kafka, settings.worker.app_id),
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=COMMIT_EVERY,
        commit_interval=COMMIT_SECONDS,
        consumer_poll_timeout=POLL_SECONDS,
        # A transaction of five thousand events is more messages than librdkafka's queue takes by default.
        producer_extra_config={
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
        },
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    rows = changelog(settings.worker.app_id)
    source_id = topic_id(admin(kafka), source_name, timeout_seconds=30)
    states: dict[int, PartitionState] = {}
    outputs: dict[str, Topic] = {}

    def meter(value: bytes, key: bytes, timestamp: int, headers: Any) -> list[Said]:
        at = message_context()
        if at.partition not in states:
            states[at.partition] = _empty(at.partition, core, source_id)
        state = states[at.partition]
        batch = Batch(core, state.view())
        batch.feed([Logged(at.offset, timestamp, key, value, headers or [])])
        folded = batch.finish()
        state.apply(folded)
        return list(_said(folded, rows))

    def output(said: Said, *_: object) -> Topic:
        if said.topic not in outputs:
            outputs[said.topic] = app.topic(
                topic_name(kafka, said.topic), key_serializer="bytes", value_serializer=_ValueOnly()
            )
        return outputs[said.topic]

    events = app.topic(source_name, key_deserializer="bytes", value_deserializer="bytes")
    stream = app.dataframe(events).apply(meter, expand=True, metadata=True)
    stream = stream.set_timestamp(lambda said, *_: said.timestamp)
    stream.to_topic(output, key=lambda said: said.key)
    return app


def _empty(partition: int, core: Core, source_id: str) -> PartitionState:
    return PartitionState(partition=partition, cursor=initial_cursor(core, source_id))


def _said(folded: Folded, rows: str) -> Iterator[Said]:
    """Outcomes, entries and balances, then what a restart would need."""
    clock = folded.cursor.clock_ms
    yield from (Said(*record) for record in folded.records)
    if folded.identities:
        yield Said(IDENTITIES, None, pack_identities(folded.identities), clock)
    for key, row in folded.accounts.items():
        yield Said(rows, key, row, clock)
    yield Said(rows, CURSOR_KEY, encode_cursor(folded.cursor), clock)


if __name__ == "__main__":
    create_app(Settings()).run()
