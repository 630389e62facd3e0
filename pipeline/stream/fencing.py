"""Takes a partition over: after this, whoever held it before can write no more, this process included."""

from pipeline.crash_points import Phase, reached
from pipeline.kafka import Producer, producer
from pipeline.settings import Settings


def fence(settings: Settings, partition: int) -> Producer:
    """A fresh producer under the partition's transactional id. Blocks until an open transaction is aborted.

    The id has nothing of Faust's in it: two releases must fence each other, whatever topics they subscribe to.
    """
    worker = settings.worker
    fenced = producer(
        settings.kafka,
        transactional_id=f"{worker.app_id}-{partition}",
        **{
            "transaction.timeout.ms": worker.transaction_timeout_ms,
            # Commit flushes, so nothing waits to be sent longer than the batch takes to produce.
            "linger.ms": 1,
        },
    )
    reached(Phase.WORKER_FENCING, partition)
    fenced.init_transactions(worker.fence_timeout_seconds)
    return fenced
