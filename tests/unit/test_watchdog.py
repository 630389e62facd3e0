"""The watchdog ends a worker that stands still before records, and none that had nothing to do."""

from collections.abc import Mapping

import pytest

from pipeline.settings import Settings
from pipeline.stream import watchdog
from pipeline.stream.watchdog import Watchdog

STALL_SECONDS = Settings().worker.stall_seconds_max


class Held:
    """A worker that has read partition 0 up to here."""

    def __init__(self) -> None:
        self.position = 1

    def positions(self) -> Mapping[int, int]:
        return {0: self.position}

    def ends(self) -> Mapping[int, int]:
        return {}

    def is_changing(self) -> bool:
        return False


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(watchdog, "end_process", lambda _, words: said.append(words))
    return said


def looks(watched: Watchdog, monkeypatch: pytest.MonkeyPatch, *, end: int, seconds: range) -> None:
    monkeypatch.setattr(watched, "_end", lambda _: end)
    for now in seconds:
        watched._look(now)


def test_a_record_that_comes_after_a_long_rest_does_not_end_the_worker(
    monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    held = Held()
    watched, rest = Watchdog(Settings(), "topic", held), 10 * STALL_SECONDS
    looks(watched, monkeypatch, end=1, seconds=range(rest))

    looks(watched, monkeypatch, end=2, seconds=range(rest, rest + 2))
    held.position = 2
    looks(watched, monkeypatch, end=2, seconds=range(rest + 2, 2 * rest))

    assert ended == []


def test_a_worker_that_stands_before_a_record_is_ended(
    monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    watched = Watchdog(Settings(), "topic", Held())

    looks(watched, monkeypatch, end=2, seconds=range(2 * STALL_SECONDS + 4))

    assert ended[0].startswith("partition 0 of topic has stood at offset 1 for ")
