"""What the routes work with: opened when the gateway starts, closed when it ends."""

import asyncio
from dataclasses import dataclass
from typing import cast

from fastapi import Request

from pipeline.client.commands import CommandKey
from pipeline.gateway.answers import Answers
from pipeline.gateway.balances import Views
from pipeline.gateway.freshness import FreshnessWatch
from pipeline.gateway.kafka_log import LogPublisher
from pipeline.gateway.limits import Rates
from pipeline.gateway.metrics import Metrics
from pipeline.gateway.schedule import Schedule
from pipeline.gateway.store import Store
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    settings: Settings
    signing: CommandKey
    log: LogPublisher
    answers: Answers
    views: Views
    store: Store
    freshness: FreshnessWatch
    rates: Rates
    schedule: Schedule
    metrics: Metrics

    def failure(self) -> str | None:
        """Why this process can do nothing useful any more; None while it can."""
        for tail in (self.answers.tail, self.views.tail):
            if tail.failed is not None:
                return f"a reader of Kafka ended: {tail.failed!r}"
        return "the producer ended by a fatal error" if self.log.is_broken else None

    async def close(self) -> None:
        """What was taken gets its answer from Kafka first."""
        self.freshness.close()
        await asyncio.to_thread(self.log.close)
        await asyncio.gather(
            *(asyncio.to_thread(tail.close) for tail in (self.answers.tail, self.views.tail))
        )
        self.store.close()


def parts_of(request: Request) -> Parts:
    return cast(Parts, request.app.state.parts)
