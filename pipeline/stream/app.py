"""The worker: a Faust app on our own transport, table and loading. `run_worker` is what the command line calls."""

from collections.abc import AsyncIterable
from typing import Any, Final, cast

import faust

from pipeline.crash_points import Phase, reached_async
from pipeline.kafka import topic_name
from pipeline.metering import Core
from pipeline.settings import Settings
from pipeline.stream import tables, transport
from pipeline.stream.assignment import Assignment
from pipeline.stream.credentials import credentials_of
from pipeline.stream.ending import end_by
from pipeline.stream.faust_app import StreamApp
from pipeline.stream.records import read_records_so
from schemas.topics import ACCOUNT_EVENTS, changelog

TABLE: Final = "accounts"
POLL_RECORDS_MAX: Final = 10_000
"""Of one poll, all partitions together."""
PARTITION_FETCH_BYTES_MAX: Final = 4_194_304
OFFSETS_INTERVAL_SECONDS: Final = 1.0
"""How often the group's offsets are told, for lag tools."""
STREAM_BUFFER_MESSAGES_MAX: Final = 64
"""Between Faust and the agent, which never waits: the bound that matters is `partition.WAITING_BATCHES_MAX`."""
TOPICS_LOOK_MS: Final = 5000
"""How often aiokafka asks for the topics. A broker that has just come back may answer that there are none; whoever
leads the group then gives nobody a partition until it asks again, by default five minutes later."""
REBALANCE_SLACK_SECONDS: Final = 10
"""Members get this much longer than one commit may take to join a rebalance."""


def create_app(settings: Settings, core: Core, instance_id: str | None = None) -> StreamApp:
    """The Faust app of this deployment; `instance_id` of its member of the group (`membership`). Connects to nothing
    yet. Raises ValueError on options it cannot follow."""
    kafka = settings.kafka
    read_records_so()
    app = _configured(settings, instance_id)
    app.held = Assignment(settings, core)
    app.source_name = topic_name(kafka, ACCOUNT_EVENTS)
    app.changelog_name = topic_name(kafka, changelog(settings.worker.app_id))
    _define_table(app, kafka.partitions)
    _define_agent(app)
    return app


def _configured(settings: Settings, instance_id: str | None) -> StreamApp:
    """Every option of Faust's on which something rests."""
    kafka, worker = settings.kafka, settings.worker
    return StreamApp(
        topic_name(kafka, worker.app_id),
        broker=[f"batch://{each.strip()}" for each in kafka.bootstrap_servers.split(",")],
        broker_credentials=credentials_of(kafka.client_options),
        store="accounts://",
        TableManager=tables.Tables,
        # So that aiokafka reads committed records only, and Faust tells our TransactionManager of every rebalance.
        processing_guarantee="exactly_once",
        recovery_consistency_check=False,
        table_standby_replicas=0,
        topic_partitions=kafka.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        # Made by Faust at its start and never used: our table is in memory. In the one state directory all the same.
        datadir=settings.home / "faust",
        key_serializer="raw",
        value_serializer="raw",
        # Reached only before the first seek: what lies outside the log's range is refused when loading.
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=instance_id,
        consumer_max_fetch_size=PARTITION_FETCH_BYTES_MAX,
        consumer_metadata_max_age_ms=TOPICS_LOOK_MS,
        broker_max_poll_records=POLL_RECORDS_MAX,
        broker_session_timeout=worker.session_timeout_ms / 1000,
        broker_heartbeat_interval=worker.heartbeat_interval_ms / 1000,
        broker_rebalance_timeout=float(worker.commit_timeout_seconds + REBALANCE_SLACK_SECONDS),
        broker_commit_interval=OFFSETS_INTERVAL_SECONDS,
        stream_buffer_maxsize=STREAM_BUFFER_MESSAGES_MAX,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )


def _define_table(app: StreamApp, partitions: int) -> None:
    table = app.Table(TABLE, key_type=bytes, value_type=bytes, partitions=partitions)
    named = table.changelog_topic.get_topic_name()
    assert named == app.changelog_name, (named, app.changelog_name)


def _define_agent(app: StreamApp) -> None:
    source = app.topic(app.source_name, key_type=bytes, value_type=bytes)

    @app.agent(source, name="meter")
    async def meter(batches: faust.StreamT[transport.Polled]) -> None:
        """Hand each batch to its partition's own task, so that partitions never wait for each other."""
        try:
            # Declared as a coroutine, but an asynchronous generator.
            async for event in cast("AsyncIterable[faust.EventT[Any]]", batches.events()):
                polled = cast("transport.Polled", event.message.value)
                await reached_async(Phase.WORKER_POLLED, event.message.partition)
                app.held.offer(polled.generation, event.message.partition, polled.records)
        except Exception as error:  # noqa: BLE001  (Faust would restart the agent and lose the batch)
            end_by(error, "the agent failed")
