"""The gateway before a real pipeline: events, holds, balances, keys, as a service without our client sees them."""

import csv
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx2 as httpx
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from pipeline.bootstrap import price_books
from pipeline.client.commands import command_key, signed
from pipeline.client.origin import now, now_text
from pipeline.client.publication import publication, publish
from pipeline.published import content_hash
from pipeline.settings import ClickHouseSettings, KafkaSettings, RuleSettings, Settings
from pipeline.usage_proof import read_export, verify
from schemas.publication import PRICE_BOOK_TYPE
from schemas.usage_export import UsageExport
from tests.builders import flat_book
from tests.conftest import own_settings
from tests.gateways import BATCH, CLOUD_EVENT, Deployment, deployed, event, square
from tests.stack import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("gateway")) as settings,
        deployed(settings.model_copy(update={"rules": RuleSettings(publish_lead_seconds=1)})) as made,
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


def test_what_one_gateway_answered_the_next_read_of_any_gateway_shows(there: Deployment) -> None:
    account, rounds = there.open("read-elsewhere"), 60
    if "second" not in there.ports:
        there.start_gateway("second")
    with there.client() as client, there.client(gateway="second") as second:
        for number in range(rounds):
            asked = {"account_id": account, "hold_id": f"h{number}", "credits": "1"}
            assert client.post("/v1/holds", json=asked).status_code == 201
            assert available(second, account) == str(500 - number - 1)


def stored(client: httpx.Client, account: str, count: int) -> list[dict[str, Any]]:
    """The account's usage, once ClickHouse has so many records of it."""

    def found() -> list[dict[str, Any]] | None:
        items: list[dict[str, Any]] = client.get(f"/v1/accounts/{account}/usage").json()["items"]
        return items if len(items) >= count else None

    return wait_until(f"{count} records are stored", found)


def test_pages_of_usage_hold_every_record_once(there: Deployment, client: httpx.Client) -> None:
    account = there.open("paged")
    client.post("/v1/events", json=[event(account, f"p{number}") for number in range(7)], headers=BATCH)
    stored(client, account, 7)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        query = {"limit": "3", "service": "image_generation", **more}
        page = client.get(f"/v1/accounts/{account}/usage", params=query).json()
        seen += [each["event_id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"p{number}" for number in range(7)]


def test_exports_agree_with_the_totals_and_stand_in_the_asked_time_zone(
    there: Deployment, client: httpx.Client
) -> None:
    account = there.open("exported")
    client.post(
        "/v1/events", json=[event(account, f"=x{number}", images=2) for number in range(3)], headers=BATCH
    )
    stored(client, account, 3)
    asked = {"tz": "Asia/Kathmandu", "from": "2020-01-01"}
    path = f"/v1/accounts/{account}/usage/export"
    found = client.get(path, params=asked)
    export = UsageExport.model_validate_json(found.content)
    assert found.headers["content-disposition"] == 'attachment; filename="usage.json"'
    assert export.filters.since == "2020-01-01T00:00:00.000+05:45"
    assert [str(each.credits) for each in export.records] == ["2", "2", "2"]
    assert all(each.accepted_at.endswith("+05:45") for each in export.records)
    assert export.totals["image_generation"].credits == 6
    assert list(verify(read_export(found.content), {book.version: book for book in price_books()})) == []
    lines = client.get(path, params={**asked, "format": "ndjson"}).text.splitlines()
    assert [json.loads(line) for line in lines] == json.loads(found.content)["records"]
    table = list(csv.DictReader(io.StringIO(client.get(path, params={**asked, "format": "csv"}).text)))
    assert [row["event_id"] for row in table] == ["'=x0", "'=x1", "'=x2"]  # No spreadsheet computes it.
    totals = client.get(
        f"/v1/accounts/{account}/usage/totals", params={"by": "day", "tz": "Asia/Kathmandu"}
    ).json()
    assert [(each["metered"], each["credits"]) for each in totals["totals"]] == [(3, "6")]


def test_a_charge_is_explained_and_the_ledger_is_chained(there: Deployment, client: httpx.Client) -> None:
    account, sent = there.open("explained"), event("explained", "urn:x/1", images=2)
    client.post("/v1/events", json=sent, headers=CLOUD_EVENT)
    stored(client, account, 1)

    def charge() -> Any:
        found = client.get(f"/v1/accounts/{account}/charges/urn:x/1")
        return found.json() if found.status_code == 200 and found.json()["ledger_entries"] else None

    told = wait_until("the charge is stored", charge)
    assert told["metered_records"][0]["receipt"]["credits_per_image"] == "1"
    newest, *_, first = client.get(f"/v1/accounts/{account}/ledger").json()["items"]
    assert (newest["kind"], newest["credits"], first["entry_seq"]) == ("usage", "-2", 1)
    assert client.get(f"/v1/accounts/{account}/statements").json() == {"items": [], "next_cursor": None}
    assert client.get(f"/v1/accounts/{account}/alerts").json()["items"] == []
    assert client.get(f"/v1/accounts/{account}/charges/nobody").json()["code"] == "unknown_charge"


def test_an_estimate_is_the_price_of_the_book_in_force(client: httpx.Client) -> None:
    usages = [square(4), {"type": "upscaling", "data": {"input_width": 512, "input_height": 512, "scale": 4}}]
    said = client.post("/v1/estimate", json={"usages": [*usages, {"type": "sorcery"}]}).json()
    assert (said["credits"], [each["credits"] for each in said["items"]]) == ("9", ["4", "5", None])
    assert said["items"][2]["code"] == "unknown_type"


def test_the_sdk_of_cloudevents_can_publish(there: Deployment, client: httpx.Client) -> None:
    account = there.open("sdk")
    sent = event(account)
    attributes = {name: value for name, value in sent.items() if name not in {"data", "time"}}
    attributes["time"] = datetime.fromisoformat(sent["time"])
    made = CloudEvent(attributes, sent["data"])
    for write in (to_structured_event, to_binary_event):
        message = write(made)
        said = client.post("/v1/events?wait=outcome", content=message.body, headers=message.headers)
        assert said.json()["status"] in {"accepted", "duplicate"}, said.text
    assert available(client, account) == "499"


def test_plain_curl_can_publish(there: Deployment) -> None:
    account = there.open("curl")
    ended = subprocess.run(
        ["curl", "-sS", f"{there.url('gateway')}/v1/events", "-H", f"Authorization: Bearer {there.key}", "-H",
         "Content-Type: application/cloudevents+json", "-d", json.dumps(event(account))],
        capture_output=True, check=True, timeout=30,
    )  # fmt: skip
    assert json.loads(ended.stdout)["status"] == "accepted"


def test_what_admins_do_is_written_down(there: Deployment, client: httpx.Client) -> None:
    account = there.open("audited")
    client.post(f"/v1/accounts/{account}/plan", json={"plan": "none"}, headers={"x-request-id": "ticket-7"})
    (written,) = [line for line in there.log("gateway").splitlines() if "ticket-7" in line]
    assert "creditstream.audit admin action ended: unknown_plan" in written
    assert f" account={account} " in written
    assert " action=account.change_plan " in written


def test_health_and_metrics_need_no_key_and_name_no_account(there: Deployment) -> None:
    account = there.open("unnamed")
    assert httpx.get(f"{there.url('gateway')}/livez").status_code == 200
    ready = httpx.get(f"{there.url('gateway')}/readyz").json()
    assert ready["components"] == {"kafka": "ok", "balances": "ok", "keys": "ok", "clickhouse": "ok"}
    told = httpx.get(f"{there.url('gateway')}/metrics").text
    assert 'creditstream_gateway_requests_total{method="POST",route="/v1/accounts",status="201"}' in told
    assert account not in told


def test_the_documents_are_served_from_here_and_need_no_script(there: Deployment) -> None:
    page = httpx.get(f"{there.url('gateway')}/docs")
    assert "<script" not in page.text
    assert "POST /v1/holds" in page.text
    assert httpx.get(f"{there.url('gateway')}/openapi.json").json()["openapi"].startswith("3.1")
    assert httpx.get(f"{there.url('gateway')}/asyncapi.yaml").text.startswith("# Generated")
    schema = httpx.get(f"{there.url('gateway')}/schemas/usage_export.v1.schema.json").json()
    assert schema["title"]


def publish_elsewhere(settings: Settings, book: dict[str, Any]) -> None:
    """As another process does: this gateway is told nothing."""
    key = command_key(settings)
    assert key is not None
    event = publication(
        PRICE_BOOK_TYPE,
        book,
        sha256=content_hash(json.dumps(book).encode()),
        command_id=book["version"],
        source="/operators",
        at=now_text(),
    )
    publish(settings, signed(event, key))


def analysed(client: httpx.Client) -> str:
    """What it costs by an estimate."""
    said = client.post("/v1/estimate", json={"usages": [{"type": "image_analysis", "data": {}}]})
    return str(said.json()["credits"])


def test_estimates_lists_and_exports_know_prices_that_came_while_it_runs(
    there: Deployment, client: httpx.Client
) -> None:
    account = there.open("repriced")
    assert analysed(client) == "1"
    publish_elsewhere(there.settings, flat_book("now", effective_from=now() + 2000, image_analysis="7"))
    wait_until("the new prices are in force", lambda: analysed(client) == "7")
    used = {**event(account), "type": "org.apimage.usage.image_analysis.v1", "data": {}}
    said = client.post("/v1/events?wait=outcome", json=used, headers=CLOUD_EVENT).json()
    assert said["outcome"]["credits"] == "7"
    assert [each["version"] for each in client.get("/v1/price-books").json()["price_books"]] == [
        "2026-01",
        "now",
    ]

    def exported() -> Any:
        return client.get(f"/v1/accounts/{account}/usage/export").json()["price_books"]

    (named,) = wait_until("the usage is stored", lambda: exported() or None)
    assert (named["version"], named["sha256"] is not None) == ("now", True)


@pytest.mark.parametrize("path", ["/v1/price-books", "/v1/plans"])
def test_a_version_is_published_once_and_for_all_partitions(
    there: Deployment, client: httpx.Client, path: str
) -> None:
    name = {"/v1/price-books": "price_books", "/v1/plans": "plan_catalogs"}[path]
    newest = client.get(path).json()[name][-1]
    new = {**newest, "version": "2099-01", "effective_from": "2099-01-01T00:00:00Z"}
    partitions = list(range(there.settings.kafka.partitions))
    for outcome in ("accepted", "duplicate"):
        said = client.post(path, json=new)
        assert said.status_code == 201, said.text
        answers = [(each["partition"], each["outcome"]) for each in said.json()["partitions"]]
        assert answers == [(partition, outcome) for partition in partitions]
    assert client.get(path).json()[name][-1]["version"] == "2099-01"
    for change, status, code, pointer in (
        ({"effective_from": "2100-01-01T00:00:00Z"}, 409, "version_exists", None),
        ({"version": "b", "effective_from": "2098-01-01T00:00:00Z"}, 422, "before_the_newest", None),
        ({"version": "b", "effective_from": now_text()}, 422, "takes_force_too_soon", "/effective_from"),
        ({"version": ""}, 422, "invalid_data", "/version"),
        ({"more": 1}, 422, "invalid_data", "/more"),
    ):
        said = client.post(path, json={**new, **change})
        assert (said.status_code, said.json()["code"], said.json().get("pointer")) == (status, code, pointer)


def test_a_plan_that_somebody_may_be_on_stays(client: httpx.Client) -> None:
    newest = client.get("/v1/plans").json()["plan_catalogs"][-1]
    fewer = {"version": "fewer", "effective_from": "2099-06-01T00:00:00Z", "plans": newest["plans"][1:]}
    said = client.post("/v1/plans", json={**newest, **fewer})
    assert (said.status_code, said.json()["code"]) == (422, "plan_missing")
