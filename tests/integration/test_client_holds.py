"""Holds of the producers' client through a real gateway: exact, charged once, and whatever fails costs nothing."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.client import (
    AsyncUsageClient,
    ClientOptions,
    CreditsShortError,
    GatewayAwayError,
    Hold,
    HoldRefusedError,
    Problem,
    Usage,
    UsageClient,
    image_generation,
)
from pipeline.client.holds import Ending
from pipeline.settings import ClickHouseSettings, KafkaSettings
from tests.conftest import own_settings
from tests.gateways import Deployment, deployed
from tests.integration.proxy import Proxy
from tests.stack import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("holds")) as settings,
        deployed(settings) as made,
    ):
        yield made


def options(there: Deployment, **given: Any) -> ClientOptions:
    values = {
        "source": "/services/test",
        "kafka": there.settings.kafka,
        "gateway_url": there.url("gateway"),
        "api_key": there.key,
    }
    return ClientOptions.model_validate({**values, **given})


@pytest.fixture
def told() -> list[Problem]:
    return []


@pytest.fixture
def client(there: Deployment, told: list[Problem]) -> Iterator[UsageClient]:
    with UsageClient(options(there), on_problem=told.append) as made:
        yield made


def images(number: int) -> Usage:
    """2 credits an image."""
    return image_generation(quality="high", width=1024, height=1024, images=number)


def fail_after_three(hold: Hold) -> None:
    with hold:
        hold.done(3)
        _ = 1 / 0


def balance(there: Deployment, account: str) -> tuple[str, str]:
    """Posted and available."""
    with there.client() as http:
        said = http.get(f"/v1/accounts/{account}/balance").json()
    return said["posted"], said["available"]


def test_only_finished_images_are_charged_and_the_rest_returns(
    there: Deployment, client: UsageClient
) -> None:
    there.open("finished")
    with client.hold("finished", images(8)) as hold:
        assert (hold.images, hold.credits) == (8, Decimal(16))
        assert balance(there, "finished") == ("500", "484")
        for number in range(8):
            if number % 2:
                hold.done()
    assert hold.ending == Ending("captured", Decimal(8))
    assert balance(there, "finished") == ("492", "492")


def test_an_exception_and_unfinished_work_give_everything_back(
    there: Deployment, client: UsageClient
) -> None:
    there.open("broken")
    hold = client.hold("broken", images(8))
    with pytest.raises(ZeroDivisionError):
        fail_after_three(hold)
    with client.hold("broken", images(4)) as second:
        pass
    assert hold.ending is not None
    assert second.ending is not None
    assert (hold.ending.outcome, second.ending.outcome) == ("released", "released")
    assert balance(there, "broken") == ("500", "500")


def test_more_than_is_held_is_not_done(there: Deployment, client: UsageClient) -> None:
    there.open("more")
    with client.hold("more", images(2)) as hold:
        with pytest.raises(ValueError, match="at most 2 more images"):
            hold.done(3)
        hold.done(2)
    assert balance(there, "more")[0] == "496"


def test_a_refusal_says_what_is_missing_and_part_of_a_batch_may_fit(
    there: Deployment, client: UsageClient
) -> None:
    there.open("short")
    with pytest.raises(CreditsShortError) as short:
        client.hold("short", images(251))
    assert short.value.code == "insufficient_credits"
    assert (short.value.required, short.value.available) == (Decimal(502), Decimal(500))
    assert short.value.resets_at is not None
    with client.hold("short", images(251), partial=True) as hold:
        assert hold.images == 250
    with pytest.raises(HoldRefusedError, match="unknown_account"):
        client.hold("nobody", images(1))
    with pytest.raises(HoldRefusedError, match="invalid_data"):
        client.hold("short", images(0))


def test_of_many_at_once_exactly_those_that_fit_are_let_through(
    there: Deployment, client: UsageClient
) -> None:
    there.open("crowd", "free")  # 50 credits, so 25 holds of 2.

    def ask(_number: int) -> bool:
        try:
            client.hold("crowd", images(1))
        except CreditsShortError:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(ask, range(60))) == 25


@pytest.mark.parametrize("lost", [b"POST /v1/holds HTTP", b"/capture HTTP"], ids=["placing", "capture"])
def test_a_lost_answer_is_asked_for_again_and_nothing_happens_twice(there: Deployment, lost: bytes) -> None:
    account = there.open("lost-placing" if b"POST" in lost else "lost-capture")
    proxy = Proxy(("127.0.0.1", there.ports["gateway"]), lost=lost)
    proxy.answers_to_lose = 2
    try:
        through = options(there, gateway_url=f"http://127.0.0.1:{proxy.port}")
        with UsageClient(through) as client, client.hold(account, images(8)) as hold:
            assert (hold.images, hold.credits) == (8, Decimal(16))
            hold.done(5)
    finally:
        proxy.close()
    assert proxy.answers_to_lose == 0
    assert hold.ending == Ending("captured", Decimal(10))
    assert balance(there, account) == ("490", "490")


def test_work_whose_capture_is_never_answered_is_charged_once_all_the_same(
    there: Deployment, told: list[Problem]
) -> None:
    there.open("unanswered")
    proxy = Proxy(("127.0.0.1", there.ports["gateway"]), lost=b"/capture HTTP")
    through = options(there, gateway_url=f"http://127.0.0.1:{proxy.port}", gateway_attempts_max=2)
    with UsageClient(through, on_problem=told.append) as client:
        with client.hold("unanswered", images(8)) as hold:
            hold.done(5)
            proxy.answers_to_lose = 2  # The capture is obeyed, and nobody hears of it.
        with client.hold("unanswered", images(8)) as second:
            second.done(3)
            proxy.is_refusing = True  # The capture never arrives.
        with pytest.raises(GatewayAwayError):
            client.hold("unanswered", images(1))
        assert client.flush(10)
    proxy.close()
    assert [problem.kind for problem in told] == ["capture_not_answered", "capture_not_answered"]
    assert [each.ending.outcome for each in (hold, second) if each.ending] == ["recorded", "recorded"]
    wait_until("8 images are charged", lambda: balance(there, "unanswered")[0] == "484")
    # What the second hold set aside returns when it expires.
    assert balance(there, "unanswered")[1] == "468"


def test_work_that_took_longer_than_its_hold_is_charged_once(
    there: Deployment, client: UsageClient, told: list[Problem]
) -> None:
    there.open("slow")
    with client.hold("slow", images(8), seconds=1) as hold:
        hold.done(5)
        until = time.monotonic() + 1.5
        wait_until("the hold has expired", lambda: time.monotonic() > until)
    assert hold.ending is not None
    assert hold.ending.outcome == "recorded"
    assert [problem.kind for problem in told] == ["capture_not_answered"]
    wait_until("5 images are charged", lambda: balance(there, "slow") == ("490", "490"))


def test_a_key_that_may_not_hold_is_told_so_at_once(there: Deployment) -> None:
    with (
        UsageClient(options(there, api_key="cs_live_forged")) as client,
        pytest.raises(HoldRefusedError, match="unauthenticated"),
    ):
        client.hold("anybody", images(1))


def test_the_asyncio_twin_records_holds_and_closes_without_holding_up_its_loop(
    there: Deployment, tmp_path: Path
) -> None:
    there.open("async")

    async def ask(client: AsyncUsageClient) -> bool:
        try:
            async with client.hold("async", images(10)) as hold:
                await asyncio.sleep(0.01)
                hold.done(2)
        except CreditsShortError:
            return False
        return True

    async def fail(client: AsyncUsageClient) -> None:
        async with client.hold("async", images(10)) as hold:
            hold.done()
            _ = 1 / 0

    async def run() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        async with AsyncUsageClient(options(there, spool_directory=tmp_path)) as client:
            receipts = [await client.record("async", images(1)) for _ in range(10)]
            told = [await client.acknowledged(each, 20) for each in receipts]
            assert set(told) <= {"published", "spooled"}
            assert all(await asyncio.gather(*(ask(client) for _ in range(20))))
            with pytest.raises(ZeroDivisionError):
                await fail(client)
            assert await client.flush(20)
            assert client.stats().recorded == 10
        ticking.cancel()
        assert ticks > 20

    asyncio.run(run())
    wait_until("50 images are charged", lambda: balance(there, "async") == ("400", "400"))
