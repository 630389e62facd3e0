"""The sink stores every committed record once, whatever happens to it."""

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from pipeline.clickhouse import Client, open_client
from pipeline.settings import Settings
from tests.integration.sinking import (
    Totals,
    Worker,
    charged,
    dead_letter,
    prepare,
    sinks,
    wait_for_totals,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    return prepare(settings)


@pytest.fixture
def database(deployed: Settings) -> Iterator[Client]:
    with closing(open_client(deployed.clickhouse)) as client:
        yield client


def expect(events: int, *, accounts: int, dead_letters: int = 0) -> Totals:
    return Totals(
        metered=events,
        entries=events,
        accounts=accounts,
        dead_letters=dead_letters,
        rolled_up=events,
        credits=Decimal("1.5") * events,
    )


def test_committed_records_are_stored_once_and_aborted_ones_never(
    deployed: Settings, database: Client
) -> None:
    worker = Worker(deployed)
    worker.publish(0, charged("a", partition=0, offsets=range(100)))
    worker.publish(0, charged("a", partition=0, offsets=range(1000, 1100)), commit=False)
    worker.publish(1, [*charged("b", partition=1, offsets=range(50)), dead_letter(partition=1, offset=50)])
    with sinks(deployed):
        wait_for_totals(database, expect(150, accounts=2, dead_letters=1))
        worker.publish(0, charged("c", partition=0, offsets=range(100, 130)))
        wait_for_totals(database, expect(180, accounts=3, dead_letters=1))
