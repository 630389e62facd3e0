"""Publishes a price book or plan catalogue: one signed command to every partition, in one Kafka transaction.

So either all partitions get it or none. All publishers of a deployment share one transactional id: a second one
fences the first, and no two partitions can see two publications in different orders.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pipeline.client.publisher import Delivered
from pipeline.domain.instants import SECOND_MS, Instant
from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.kafka import QUIET, KafkaError, KafkaException, Message, producer, topic_name
from pipeline.published import content_hash
from pipeline.settings import Settings
from pipeline.validate_publication import published_content
from pipeline.validate_usage import canonical_json
from schemas.publication import SCHEDULE_SUBJECT
from schemas.topics import ACCOUNT_EVENTS

TRANSACTIONAL_ID: Final = "creditstream-schedule"
TRANSACTION_SECONDS_MAX: Final = 30
"""From the first partition's record to the last one's, commit included; then it is aborted and nothing is published."""
APPEND_SECONDS_MAX: Final = 60
"""From the publisher's clock to the last append: the transaction, and what the clocks differ by. Who publishes leaves
this much more time than the rule asks for, else partitions could disagree on whether it was too late."""


def checked(kind: str, content: Mapping[str, Any]) -> PriceBook | PlanCatalog:
    """The content as the rules see it, by the worker's own validation. Raises Fault, whose pointer begins with
    `/data/content`."""
    given = dict(content)
    return published_content(kind, {"content": given, "sha256": content_hash(canonical_json(given))})[1]


def earliest(now: int, lead_seconds: int) -> Instant:
    """From when a version may take force that is published now; `lead_seconds` is the rule's own."""
    return Instant(now + (lead_seconds + APPEND_SECONDS_MAX) * SECOND_MS)


def publication(
    kind: str, content: Mapping[str, Any], *, sha256: str, command_id: str, source: str, at: str
) -> dict[str, Any]:
    """The command that still needs its signature. `kind` is its whole CloudEvents type."""
    return {
        "specversion": "1.0",
        "id": command_id,
        "source": source,
        "type": kind,
        "subject": SCHEDULE_SUBJECT,
        "time": at,
        "datacontenttype": "application/json",
        "data": {"content": dict(content), "sha256": sha256},
    }


def publish(settings: Settings, event: Mapping[str, Any]) -> list[Delivered]:
    """Where the command stands in each partition. Raises KafkaException; then nothing is published, unless it was the
    commit whose answer did not come: publish the same again, under the same id."""
    options: dict[str, Any] = {"transaction.timeout.ms": TRANSACTION_SECONDS_MAX * 1000, **QUIET}
    publisher = producer(settings.kafka, transactional_id=TRANSACTIONAL_ID, **options)
    topic, until = topic_name(settings.kafka, ACCOUNT_EVENTS), time.monotonic() + TRANSACTION_SECONDS_MAX
    publisher.init_transactions(TRANSACTION_SECONDS_MAX)
    publisher.begin_transaction()
    delivered: list[Delivered] = []
    failed: list[KafkaError] = []

    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error)
        else:
            delivered.append(Delivered(message.partition() or 0, message.offset() or 0))

    headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json")]
    value = orjson.dumps(event)
    for partition in range(settings.kafka.partitions):
        publisher.produce(
            topic, value, SCHEDULE_SUBJECT, partition=partition, headers=headers, on_delivery=told
        )
    left = publisher.flush(max(until - time.monotonic(), 0))
    if left or failed:
        publisher.abort_transaction(TRANSACTION_SECONDS_MAX)
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  (its own name)
    publisher.commit_transaction(max(until - time.monotonic(), 1))
    return sorted(delivered)
