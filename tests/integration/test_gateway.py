"""The gateway before a real pipeline: events, holds, balances, keys, as a service without our client sees them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from pipeline.settings import ClickHouseSettings, KafkaSettings
from tests.conftest import own_settings
from tests.gateways import BATCH, CLOUD_EVENT, Deployment, deployed, event, square

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("gateway")) as settings,
        deployed(settings) as made,
    ):
        yield made


@pytest.fixture
def client(there: Deployment) -> Iterator[httpx.Client]:
    with there.client() as made:
        yield made


def available(client: httpx.Client, account: str) -> str:
    return str(client.get(f"/v1/accounts/{account}/balance").json()["available"])


def test_an_event_is_acknowledged_and_the_next_read_shows_its_charge(
    there: Deployment, client: httpx.Client
) -> None:
    account = there.open("read-own-write")
    said = client.post("/v1/events", json=event(account, images=4), headers=CLOUD_EVENT)
    assert (said.status_code, said.json()["status"]) == (202, "accepted")
    assert available(client, account) == "496"


def test_waiting_for_the_outcome_tells_the_price_and_a_resend_is_a_duplicate(
    there: Deployment, client: httpx.Client
) -> None:
    account, sent = there.open("outcomes"), event("outcomes", images=3)
    results = [client.post("/v1/events?wait=outcome", json=sent, headers=CLOUD_EVENT).json() for _ in "ab"]
    assert [
        (each["status"], each["outcome"]["credits"], each["outcome"]["rated_credits"]) for each in results
    ] == [
        ("accepted", "3", "3"),
        ("duplicate", "0", "3"),
    ]
    assert available(client, account) == "497"


def test_holding_capturing_and_reading_agree_to_the_credit(there: Deployment, client: httpx.Client) -> None:
    account = there.open("holding")
    placed = client.post("/v1/holds", json={"account_id": account, "hold_id": "job/1", "usage": square(8)})
    assert (placed.status_code, placed.json()["hold"]["credits"]) == (201, "8")
    assert available(client, account) == "492"
    done = {name: event(account, images=5)[name] for name in ("type", "id", "source", "time", "data")}
    captured = client.post("/v1/holds/job/1/capture", json={"account_id": account, "usage": done})
    assert (captured.status_code, captured.json()["hold"]["credits"]) == (200, "5")
    assert available(client, account) == "495"


def test_concurrent_holds_on_one_account_admit_exactly_what_fits(there: Deployment) -> None:
    account = there.open("concurrent", "free", credits="50")
    with there.client() as client:
        fits = int(available(client, account)) // 3
        start = threading.Barrier(16)

        def ask(caller: int) -> list[int]:
            start.wait()
            return [
                client.post(
                    "/v1/holds",
                    json={"account_id": account, "hold_id": f"{caller}-{number}", "usage": square(3)},
                ).status_code
                for number in range(4)
            ]

        with ThreadPoolExecutor(16) as pool:
            codes = [code for each in pool.map(ask, range(16)) for code in each]
        assert (codes.count(201), codes.count(402)) == (fits, 64 - fits)


def test_a_refusal_for_want_of_credits_says_what_is_missing_and_when_there_is_more(
    there: Deployment, client: httpx.Client
) -> None:
    account = there.open("short", "free")
    refused = client.post("/v1/holds", json={"account_id": account, "hold_id": "big", "usage": square(9000)})
    problem = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.status_code, problem["code"], problem["retryable"]) == (
        402,
        "insufficient_credits",
        False,
    )
    assert problem["required"] == "9000"
    assert problem["available"] == available(client, account)
    assert problem["resets_at"] > "2026"


def test_the_same_request_under_one_idempotency_key_is_one_command(
    there: Deployment, client: httpx.Client
) -> None:
    account = there.open("idempotent")
    pack = {"grant_id": "gift", "kind": "promotional", "credits": "10"}
    same = {"idempotency-key": "order-1"}
    said = [client.post(f"/v1/accounts/{account}/grants", json=pack, headers=same) for _ in "ab"]
    assert [each.json()["outcome"] for each in said] == ["accepted", "duplicate"]
    assert available(client, account) == "510"
    other = client.post(f"/v1/accounts/{account}/grants", json={**pack, "credits": "11"}, headers=same)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_batch_has_a_verdict_for_each_event_in_its_order(there: Deployment, client: httpx.Client) -> None:
    account = there.open("batch")
    events = [event(account), {**event(account), "specversion": "0.3"}, event(account, quality="best"), 7]
    said = client.post("/v1/events", json=events, headers=BATCH)
    assert said.status_code == 202
    assert [(each["status"], each["code"], each["pointer"]) for each in said.json()["results"]] == [
        ("accepted", "", ""),
        ("rejected", "invalid_envelope", "/specversion"),
        ("rejected", "invalid_data", "/data/quality"),
        ("rejected", "malformed_json", ""),
    ]


def test_binary_mode_is_the_same_event(there: Deployment, client: httpx.Client) -> None:
    account = there.open("binary")
    sent = event(account, images=2)
    headers = {f"ce-{name}": str(value) for name, value in sent.items() if name != "data"}
    first = client.post("/v1/events?wait=outcome", json=sent["data"], headers=headers).json()
    again = client.post("/v1/events?wait=outcome", json=sent, headers=CLOUD_EVENT).json()
    assert (first["status"], again["status"]) == ("accepted", "duplicate")


def test_a_revoked_key_is_refused_by_every_gateway_within_seconds(
    there: Deployment, client: httpx.Client
) -> None:
    made = client.post("/v1/keys", json={"name": "short-lived", "scopes": ["read"]}).json()
    there.start_gateway("second")
    for gateway in ("gateway", "second"):
        with there.client(made["key"], gateway) as other:
            assert other.get("/v1/accounts/nobody/balance").status_code == 404
    revoked = client.post(f"/v1/keys/{made['key_id']}/revoke").json()
    assert revoked["revoked_at"]
    with there.client(made["key"]) as other:
        assert other.get("/v1/accounts/nobody/balance").status_code == 401
    with there.client(gateway="second") as second:
        assert second.get("/v1/keys").status_code == 200  # Reads its topic to the end before it answers.
    with there.client(made["key"], "second") as other:
        assert other.get("/v1/accounts/nobody/balance").status_code == 401
