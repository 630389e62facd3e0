"""Two who wait for usage to show: one reads balances as every gateway does, one asks ClickHouse as an analyst."""

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing
from typing import Final

import orjson

from pipeline.clickhouse import open_analyst
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_BALANCES
from tests.bench.holds.asking import Position
from tests.bench.holds.stages import Steps
from tests.bench.reading import from_the_end

POLL_SECONDS: Final = 0.05
ASK_SECONDS: Final = 0.05
"""Between two looks into ClickHouse: what is seen is at most so much older than it looks."""
_REACHED: Final = """
SELECT partition, max(offset) AS reached, toUnixTimestamp64Milli(max(accepted_at)) AS newest FROM metered_records
WHERE accepted_at >= {since:DateTime64(3, 'UTC')} GROUP BY partition
"""
"""Only parts with rows as new as those that were seen last are read: asked for all, it took a fifth of a processor
from what it watches."""


class Balances(threading.Thread):
    """Reads from the end that the topic has now until it is stopped. Parsed when all is over."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.ready, self.stopped = threading.Event(), threading.Event()
        self._settings = settings
        self._came: list[tuple[float, bytes]] = []
        self.start()

    def run(self) -> None:
        reader = from_the_end(self._settings.kafka, ACCOUNT_BALANCES)
        self.ready.set()
        while not self.stopped.is_set():
            message = reader.poll(POLL_SECONDS)
            if message is not None:
                assert message.error() is None, message.error()
                self._came.append((time.time(), message.value() or b""))
        reader.close()

    def seen(self, accounts: dict[Position, bytes]) -> dict[Position, float]:
        """When the account's balance first knew of the record at this place of the input log. Of those that it knew."""
        by_account: defaultdict[str, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
        for at, value in self._came:
            body = orjson.loads(value)
            offsets, times = by_account[body["account_id"]]
            offsets.append(body["offset"])
            times.append(at)
        found: dict[Position, float] = {}
        for position, account in accounts.items():
            offsets, times = by_account[account.decode()]
            index = bisect_left(offsets, position[1])
            if index < len(times):
                found[position] = times[index]
        return found


class Stored(threading.Thread):
    """Asks ClickHouse, again and again until it is stopped, how far each partition's records are there."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.reached: dict[int, Steps] = {each: Steps() for each in range(settings.kafka.partitions)}
        """Partition → every look, by the first offset that it did not see."""
        self._settings = settings
        self._newest = dict.fromkeys(self.reached, time.time())
        """Partition → when its newest row that was seen was accepted; no later row of it is older."""
        self.start()

    def run(self) -> None:
        with closing(open_analyst(self._settings.clickhouse)) as client:
            while not self.stopped.wait(ASK_SECONDS):
                since = min(self._newest.values())
                answer = client.query(_REACHED, parameters={"since": f"{since:.3f}"})
                at = time.time()
                for partition, offset, newest_ms in answer.result_rows:
                    self.reached[partition].next_offsets.append(offset + 1)
                    self.reached[partition].at.append(at)
                    self._newest[partition] = newest_ms / 1000

    def has(self, position: Position) -> bool:
        looks = self.reached[position[0]].next_offsets
        return bool(looks) and looks[-1] > position[1]
