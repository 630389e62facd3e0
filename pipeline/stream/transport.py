"""Faust's transport, made for batches: `batch://`.

Faust keeps subscription, assignment and rebalancing. What is replaced, and why (faust-streaming 0.15.3):
`Consumer.getmany` yields one message per partition and poll, since Faust's cost is per message; positions come from
the cursor, never from the group's offsets; commits are for lag tools only; nothing is produced through Faust at all.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport import consumer as faust_consumer
from faust.transport import producer as faust_producer
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from faust.types.tuples import Message as MessageT

from pipeline.crash_points import Phase, reached_async
from pipeline.metering import LogRecord
from pipeline.stream.faust_app import StreamApp

FETCH_WAIT_MS_MAX: Final = 50
"""How long the broker holds an empty fetch. A partition that was busy when the fetch went out waits for its end, so
Faust's 1,500 ms would be that partition's delay."""
POLL_BUSY_SECONDS: Final = 0.01
"""A poll that leaves a full partition out is short, so that the partition is asked for again soon."""
POLL_SECONDS_MAX: Final = 0.25
"""Of any poll: positions are sought between two polls, so a takeover waits for the one that is under way."""
OFFSETS_SECONDS_MAX: Final = 2.0
"""For telling the group's offsets, which nothing rests on."""

_logger = logging.getLogger(__name__)


class Polled(NamedTuple):
    """The value of the one message that Faust sees: records of one partition, as aiokafka decoded them."""

    generation: int
    records: list[LogRecord]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka lives: fetching and heartbeats go on while the worker computes."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for it; aiokafka reads it when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS_MAX  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return consumer

    async def pause_in_broker_client(self, topic_partitions: set[TP]) -> None:
        """Faust's own pausing does not stop aiokafka from fetching; this does."""
        await self.call_thread(self._pause, topic_partitions)

    async def _pause(self, topic_partitions: set[TP]) -> None:
        self._ensure_consumer().pause(*(TopicPartition(*each) for each in topic_partitions))

    async def tell_offsets(self, offsets: Mapping[TP, int]) -> None:
        """Commit the group's offsets, without any claim."""
        await self.call_thread(self._tell_offsets, offsets)

    async def _tell_offsets(self, offsets: Mapping[TP, int]) -> None:
        committed = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        await asyncio.wait_for(self._ensure_consumer().commit(committed), OFFSETS_SECONDS_MAX)

    async def leave_group(self) -> None:
        """Say goodbye, so that the others need not wait for the session to run out."""
        # With an instance id aiokafka would keep the seat: right for a kill, wrong for an orderly end.
        coordinator: Any = self._ensure_consumer()._coordinator  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        coordinator._group_instance_id = None  # noqa: SLF001
        await self.call_thread(self._ensure_consumer().stop)

    def read_to(self, tp: TP) -> int | None:
        """How far the partition was polled, transaction markers included. Safe from any thread."""
        client, place = self._ensure_consumer(), TopicPartition(*tp)
        if place not in client.assignment():
            return None
        # Without an event loop of its own there is no public way to ask.
        assignment = client._subscription.subscription.assignment  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        state = assignment.state_value(place)
        return int(state.position) if state.has_valid_position else None

    def end_of(self, tp: TP) -> int | None:
        """Where the partition ended at the newest fetch. Safe from any thread."""
        client, place = self._ensure_consumer(), TopicPartition(*tp)
        return client.highwater(place) if place in client.assignment() else None


class Consumer(driver.Consumer):
    """Yields batches. Acknowledging messages means nothing here: the cursor is the only position."""

    app: StreamApp  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)
    _thread: ConsumerThread  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)
    _told: dict[TP, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told = {}
        self._polling = asyncio.Lock()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One message per partition that has records. Nothing polled in this generation is ever left out."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        held = self.app.held
        generation = held.generation
        active = {tp for tp in self._get_active_partitions() if tp.topic == self.app.source_name}
        wanted = {tp for tp in active if held.has_room(tp.partition)}
        if not wanted:
            await held.wait_for_room(timeout)
            return
        seconds = min(timeout, POLL_SECONDS_MAX) if wanted == active else POLL_BUSY_SECONDS
        # What a poll takes moves the position. One that outlived the seek of the next generation would take records
        # that nobody reads again, and they would be lost.
        async with self._polling:
            if held.generation != generation:
                return
            polled = await self._getmany(wanted, seconds)
        if self.should_stop or not self.flow_active or held.generation != generation:
            return  # Read again from the cursor, which is sought after this.
        for tp, records in polled.items():
            last = records[-1]
            batch = cast("Any", Polled(generation, records))
            yield tp, ConsumerMessage(
                tp.topic, tp.partition, last.offset, last.timestamp / 1000, last.timestamp_type, [], None, batch, None,
                tp=tp, generation_id=self.app.consumer_generation_id,
            )  # fmt: skip

    async def leave_group(self) -> None:
        """See `ConsumerThread.leave_group`."""
        await self._thread.leave_group()

    def read_to(self, partition: int) -> int | None:
        """How far a source partition was polled, transaction markers included. Safe from any thread."""
        return self._thread.read_to(TP(self.app.source_name, partition))

    def end_of(self, partition: int) -> int | None:
        """Where a source partition ended at the newest fetch. Safe from any thread."""
        return self._thread.end_of(TP(self.app.source_name, partition))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go on where the cursors say; the group's offsets are not asked."""
        held = self.app.held
        generation = held.generation
        positions = {TP(self.app.source_name, each): at for each, at in held.positions().items()}
        await self._thread.pause_in_broker_client(
            {tp for tp in self.assignment() if tp.topic != self.app.source_name}
        )
        async with self._polling:
            await self.seek_wait(positions)
            held.open(generation)
        return positions

    async def commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        """Tell the group how far the cursors are, about once a second, for tools that show lag."""
        del topics, start_new_transaction
        offsets = {TP(self.app.source_name, each): at for each, at in self.app.held.positions().items()}
        news = dict(offsets.items() - self._told.items())
        if news and self.flow_active:
            try:
                await self._thread.tell_offsets(news)
            except (KafkaError, IllegalStateError, TimeoutError) as error:
                _logger.info("the group's offsets could not be told, which only lag tools notice: %r", error)
            else:
                self._told = offsets
        return True

    def track_message(self, message: MessageT) -> None:
        """Faust need not remember what it hands out."""

    def ack(self, message: MessageT) -> bool:
        """Nothing follows from it."""
        message.acked = True
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps in offsets are transaction markers; Faust's bookkeeping of them is not needed."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """The watchdog looks at progress instead."""

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """Topics are made and checked by `pipeline.admin.topics`, never by Faust."""


class TransactionManager(faust_consumer.TransactionManager):
    """Follows the group's generations. Faust calls it before its tables, so fencing comes before loading."""

    app: StreamApp  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish the running batches; heartbeats go on during this callback."""
        del revoked
        await self.app.held.release()

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP]) -> None:
        """Take every assigned partition over anew, not only those that Faust calls new."""
        del revoked, newly_assigned
        source = {tp.partition for tp in assigned if tp.topic == self.app.source_name}
        changelog = {tp.partition for tp in assigned if tp.topic == self.app.changelog_name}
        assert source == changelog, f"source partitions {source} were not placed with changelog {changelog}"
        await self.app.held.release()
        await reached_async(Phase.WORKER_ASSIGNED)
        self.app.held.begin(source)

    async def commit(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        """Each batch commits itself, at its end; Faust's timed commit would cut one in the middle."""
        del offsets, start_new_transaction
        return True

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """See `Consumer.create_topic`."""


class Producer(driver.Producer):
    """Connects to nothing: whatever the worker says goes out in a partition's transaction."""

    async def on_start(self) -> None:
        """Start Faust's buffer, which its conductor looks at, and no client."""
        await faust_producer.Producer.on_start(self)

    async def flush(self) -> None:
        """There is nothing to flush."""

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        """See `Consumer.create_topic`."""


class Transport(driver.Transport):
    """The driver behind `batch://`."""

    Consumer: ClassVar[type] = Consumer
    Producer: ClassVar[type] = Producer
    TransactionManager: ClassVar[type] = TransactionManager


TRANSPORTS.aliases["batch"] = f"{__name__}:Transport"
