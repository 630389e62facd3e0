"""Takes partitions over: fence, read the newest plan, find where to begin. Side by side, and before any record is read.

The group waits while this runs, so everything that can be asked in one question is.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pipeline.kafka import AdminClient, TopicPartition, admin, list_offsets, topic_id, topic_name
from pipeline.settings import Settings
from pipeline.sink.partition import SinkPartition, Tools
from pipeline.sink.plan import Buffer
from pipeline.sink.plan_log import PlanLog
from schemas.sink_plan import SinkPlan
from schemas.topics import SINK_PLANS

REQUEST_TIMEOUT_SECONDS: Final = 30


class SinkRefusedError(Exception):
    """Going on would lose or double rows; a person decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logs:
    """What the broker says about the topics now."""

    topic_ids: Mapping[str, str]
    begins: Mapping[tuple[str, int], int]
    plans_topic: str


def open_partitions(
    settings: Settings, topics: Sequence[str], numbers: Sequence[int], tools: Tools
) -> dict[int, SinkPartition]:
    """Own these partitions of these topics; whoever owned them before can plan nothing more."""
    if not numbers:
        return {}
    broker = admin(settings.kafka)
    logs = _ask(settings, broker, topics, numbers)
    with ThreadPoolExecutor(len(numbers)) as pool:

        def opened(number: int) -> SinkPartition:
            return _open(settings, logs, number, tools)

        return {partition.number: partition for partition in pool.map(opened, numbers)}


def _ask(settings: Settings, broker: AdminClient, topics: Sequence[str], numbers: Sequence[int]) -> _Logs:
    plans_topic = topic_name(settings.kafka, SINK_PLANS)
    seconds = REQUEST_TIMEOUT_SECONDS
    places = [TopicPartition(topic, number) for topic in [*topics, plans_topic] for number in numbers]
    return _Logs(
        topic_ids={topic: topic_id(broker, topic, timeout_seconds=seconds) for topic in topics},
        begins=list_offsets(broker, places, "earliest", timeout_seconds=seconds),
        plans_topic=plans_topic,
    )


def _open(settings: Settings, logs: _Logs, number: int, tools: Tools) -> SinkPartition:
    log = PlanLog(settings, number)
    plan = log.newest(
        begins=logs.begins[logs.plans_topic, number]
    )  # After the fence: only now there is a newest.
    return SinkPartition(
        number,
        log=log,
        plan=plan,
        buffers=_buffers(plan, logs, number),
        topic_ids=logs.topic_ids,
        tools=tools,
    )


def _buffers(plan: SinkPlan | None, logs: _Logs, number: int) -> dict[str, Buffer]:
    """Where each topic is read from: by the plan, or its oldest record where no plan ever named it.

    A plan of an older release names fewer topics: what is stored since then begins at its beginning.
    """
    firsts = {topic: logs.begins[topic, number] for topic in logs.topic_ids}
    for planned in () if plan is None else plan.ranges:
        found = logs.topic_ids.get(planned.topic)
        if found != planned.topic_id:
            raise SinkRefusedError(
                f"the sink has stored {planned.topic} with id {planned.topic_id} up to offset {planned.end}, the "
                f"broker has {found}: the topic was deleted and created again, and its offsets mean other "
                "records. Remedy: creditstream rebuild clickhouse --yes"
            )
        begins = logs.begins[planned.topic, number]
        if planned.first < begins:
            raise SinkRefusedError(
                f"records of {planned.topic} partition {number} from offset {planned.first} to {begins} were "
                "deleted from Kafka before they were stored in ClickHouse: the retention is shorter than the "
                "sink was away. Remedy: restore a backup (creditstream restore clickhouse), or take what the log "
                "still holds (creditstream rebuild clickhouse --yes --accept-loss)"
            )
        firsts[planned.topic] = planned.first
    return {topic: Buffer(first) for topic, first in firsts.items()}
