"""Balances, API keys and notification settings in memory: compacted topics, read from their start and followed.

A read sees everything that was answered before it began, by whichever gateway: it asks where the topic ends and waits
for that place. It also waits, within a bound, for what this gateway had acknowledged for the account.
"""

import asyncio
import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.client.outcomes import Position
from pipeline.domain.credits import format_credits, parse_credits
from pipeline.gateway.answers import Answers
from pipeline.gateway.keys import KeyRing, command_secrets
from pipeline.gateway.problems import ProblemError
from pipeline.gateway.tail import Place, Signal, Tail
from pipeline.kafka import KafkaException, Message, topic_name
from pipeline.notifications.book import NotificationBook
from pipeline.notifications.keys import NotificationKeys
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_BALANCES, API_KEYS, NOTIFICATION_SETTINGS

MARKS_MAX: Final = 100_000
"""Accounts whose last acknowledged event is remembered; a forgotten one is not waited for."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A balance as it is read."""

    balance: dict[str, Any] | None
    """None: not in memory."""
    is_behind: bool
    """Whether something that this gateway has acknowledged may not be in it yet."""


class Views:
    """Owns the views. `start` blocks until all are complete."""

    def __init__(self, settings: Settings, answers: Answers) -> None:
        self._settings = settings
        self._most = settings.gateway.balances_accounts_max
        self._seconds = settings.gateway.read_wait_ms / 1000
        self._answers = answers
        self._signal = Signal()
        self._lock = threading.Lock()
        self._balances: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        """Account → partition and record, the longest unchanged first."""
        self._newest: dict[int, int] = {}
        """Partition → number (`partition_seq`) of the newest record that changed a balance."""
        self._written: OrderedDict[str, Position] = OrderedDict()
        """Account → what this gateway last had acknowledged for it, until a read has waited for it."""
        self.keys = KeyRing(command_secrets(settings))
        notification_keys = NotificationKeys.of(settings.notifier)
        self.notifications = None if notification_keys is None else NotificationBook(notification_keys)
        """None: this deployment has no notification keys, and takes no settings."""
        self._others: dict[str, Callable[[bytes | None], None]] = {
            topic_name(settings.kafka, API_KEYS): self.keys.apply,
            topic_name(settings.kafka, NOTIFICATION_SETTINGS): self._apply_notifications,
        }
        self.tail = Tail(
            settings,
            (ACCOUNT_BALANCES, API_KEYS, NOTIFICATION_SETTINGS),
            begin="earliest",
            take=self._take,
            moved=self._signal.moved,
        )

    @property
    def accounts(self) -> int:
        """How many balances are in memory."""
        return len(self._balances)

    def newest(self) -> dict[int, int]:
        """Partition → number (`partition_seq`) of the newest record that changed a balance there."""
        with self._lock:
            return dict(self._newest)

    def posted(self) -> tuple[int, str]:
        """How many accounts are in memory, and the sum of what is posted to them."""
        with self._lock:
            values = [value for _, value in self._balances.values()]
        return len(values), format_credits(
            sum(parse_credits(orjson.loads(each)["posted"]) for each in values)
        )

    def partition_of(self, account: str) -> int | None:
        """Where the account's records stand; None when it is not in memory."""
        with self._lock:
            found = self._balances.get(account)
        return None if found is None else found[0]

    def known(self, prefix: str, within: frozenset[str] | None, most: int) -> list[str]:
        """Accounts in memory, in alphabetical order: those that begin so, of `within` unless it is None."""
        with self._lock:
            of = self._balances if within is None else [each for each in within if each in self._balances]
            return heapq.nsmallest(most, [each for each in of if each.startswith(prefix)])

    async def start(self) -> None:
        """Read both topics to their present end. Raises TimeoutError when that takes too long."""
        await asyncio.to_thread(self.tail.start)
        ends = await asyncio.to_thread(self.tail.ends)
        seconds = self._settings.gateway.start_seconds_max
        if not await self._signal.until(lambda: self._are_reached(ends), seconds):
            raise TimeoutError(
                f"expected to read balances, keys and notification settings within {seconds} s"
            )

    def wrote(self, account: str, position: Position) -> None:
        """Kafka has acknowledged something for the account: reads wait for it from now on."""
        self._written[account] = position
        self._written.move_to_end(account)
        if len(self._written) > MARKS_MAX:
            self._written.popitem(last=False)

    async def balance(self, account: str) -> Seen:
        """The account's balance with everything that was answered before this call."""
        position = self._written.get(account)
        is_behind = position is not None and not await self._answers.until_answered(position, self._seconds)
        if not is_behind and position is not None and self._written.get(account) == position:
            del self._written[account]
        await self.catch_up(account)
        with self._lock:
            found = self._balances.get(account)
        return Seen(None if found is None else orjson.loads(found[1]), is_behind)

    async def catch_up(self, account: str | None = None) -> None:
        """Wait until the views have all that is committed now: of the account's partition, where it is known."""
        ends = await self._ends()
        with self._lock:
            found = self._balances.get(account) if account else None
        if found is not None:
            own = ACCOUNT_BALANCES, found[0]
            ends = {place: end for place, end in ends.items() if place == own}
        if not await self._signal.until(lambda: self._are_reached(ends), self._seconds):
            raise ProblemError("kafka_unavailable", "the balances are not up to date", retry_after=1)

    async def _ends(self) -> dict[Place, int]:
        try:
            return await asyncio.to_thread(self.tail.ends)
        except KafkaException as error:
            raise ProblemError("kafka_unavailable", "Kafka does not answer", retry_after=1) from error

    def _are_reached(self, ends: Mapping[Place, int]) -> bool:
        """Balances are written in transactions: what stands last is a marker, and to wait for it costs a fetch."""
        reached = self.tail.reached
        return all(reached[place] >= end - (place[0] == ACCOUNT_BALANCES) for place, end in ends.items())

    def _take(self, messages: list[Message]) -> None:
        newest: dict[int, bytes] = {}
        with self._lock:
            for message in messages:
                key, value, partition = message.key(), message.value(), message.partition()
                apply = self._others.get(message.topic() or "")
                if apply is not None:
                    apply(value if isinstance(value, bytes) else None)
                elif isinstance(key, bytes) and isinstance(value, bytes):
                    assert partition is not None
                    account = key.decode()
                    self._balances[account] = partition, value
                    newest[partition] = value
                    self._balances.move_to_end(account)
            while len(self._balances) > self._most:
                self._balances.popitem(last=False)
            self._newest |= {
                partition: int(orjson.loads(value)["partition_seq"]) for partition, value in newest.items()
            }

    def _apply_notifications(self, value: bytes | None) -> None:
        if self.notifications is not None:
            self.notifications.apply(value)
