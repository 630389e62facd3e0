"""A plain Faust agent round the same core, as Faust's guide teaches it: one event, a table write, a send per record.

At least once, not exactly once. Two things are easier for it than for a program for production: identities stand in
a dict that no restart would survive, and so does the cursor. `python -m tests.bench.peers.plain_faust` runs it.
"""

from typing import Final, cast

import faust

from pipeline.bootstrap import load_core
from pipeline.kafka import Logged, admin, topic_id, topic_name
from pipeline.metering import Batch, initial_cursor
from pipeline.settings import Settings
from pipeline.state import Cursor
from schemas.topics import ACCOUNT_EVENTS
from tests.bench.peers.state import view_of

TABLE: Final = "accounts"


def create_app(settings: Settings) -> faust.App:
    """One app, one agent, one table."""
    kafka, core = settings.kafka, load_core(settings)
    source_name = topic_name(kafka, ACCOUNT_EVENTS)
    app = faust.App(
        topic_name(kafka, settings.worker.app_id),
        broker=f"kafka://{kafka.bootstrap_servers}",
        store="memory://",
        topic_partitions=kafka.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        # Faust's defaults wait longer and buffer less; these are what made it fastest.
        stream_buffer_maxsize=16_384,
        producer_linger=5,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
    )
    accounts = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=kafka.partitions)
    first_cursor = initial_cursor(core, topic_id(admin(kafka), source_name, timeout_seconds=30))
    cursors: dict[int, Cursor] = {}
    identities: dict[int, dict[bytes, bytes]] = {each: {} for each in range(kafka.partitions)}
    outputs: dict[str, faust.TopicT] = {}

    @app.agent(app.topic(source_name, key_type=bytes, value_type=bytes))
    async def meter(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            message = event.message
            partition = message.partition
            cursor = cursors.get(partition, first_cursor)
            batch = Batch(core, view_of(partition, cursor, core.bundled, accounts, identities[partition]))
            batch.feed([_record(message)])
            folded = batch.finish()
            for key, row in folded.accounts.items():
                accounts[key] = row
            for topic, key, value, timestamp in folded.records:
                if topic not in outputs:
                    outputs[topic] = app.topic(topic_name(kafka, topic), key_type=bytes, value_type=bytes)
                # Faust takes seconds, and cuts off what is less than a millisecond.
                seconds = (timestamp + 0.5) / 1000
                await outputs[topic].send(key=key, value=value, partition=partition, timestamp=seconds)
            identities[partition].update(folded.identities)
            cursors[partition] = folded.cursor

    return app


def _record(message: faust.types.tuples.Message) -> Logged:
    # aiokafka's pairs, whatever Faust's type says.
    headers = cast("list[tuple[str, bytes | None]]", message.headers or [])
    return Logged(message.offset, round(message.timestamp * 1000), message.key, message.value, headers)


if __name__ == "__main__":
    faust.Worker(create_app(Settings()), loglevel="WARNING").execute_from_commandline()
