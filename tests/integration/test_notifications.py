"""Whom alerts are sent to, by the gateway before a real pipeline."""

from collections.abc import Iterator

import httpx2 as httpx
import pytest

from pipeline.settings import ClickHouseSettings, KafkaSettings
from schemas.http_api import Scope
from tests.conftest import own_settings
from tests.gateways import Deployment, deployed, make_key

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("notifications")) as settings,
        deployed(settings) as made,
    ):
        yield made


def of(account: str, there: Deployment, *scopes: Scope) -> httpx.Client:
    key = make_key(there.settings, scopes=scopes or ("read", "admin"), accounts=[account])
    return httpx.Client(
        base_url=f"{there.url('gateway')}/v1/accounts/{account}/notifications",
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )


def test_settings_are_read_as_they_were_written(there: Deployment) -> None:
    with of("settings", there) as client:
        assert client.get("").json() == {
            "account_id": "settings", "recipients": [], "language": "en", "time_zone": "UTC", "webhooks": [],
        }  # fmt: skip
        wanted = {
            "recipients": ["b@example.com", "A@example.com", "a@Example.com"],
            "time_zone": "Asia/Tokyo",
        }
        said = client.put("", json=wanted)
        assert said.status_code == 200, said.text
        assert said.json() == client.get("").json()
        assert [each["address"] for each in said.json()["recipients"]] == ["b@example.com", "A@example.com"]
        assert said.json()["time_zone"] == "Asia/Tokyo"
        assert client.put("", json={"recipients": []}).json()["recipients"] == []


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"recipients": ["a@example.com\nBcc: b@example.com"]}, "/recipients/0"),
        ({"recipients": ['"a b"@example.com']}, "/recipients/0"),
        ({"recipients": [f"a{n}@example.com" for n in range(11)]}, "/recipients"),
        ({"recipients": [], "time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"recipients": [], "language": "tlh"}, "/language"),
        ({}, "/recipients"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(
    there: Deployment, wanted: dict[str, object], pointer: str
) -> None:
    with of("refused", there) as client:
        said = client.put("", json=wanted)
        assert (said.status_code, said.json()["code"], said.json()["pointer"]) == (
            422,
            "invalid_data",
            pointer,
        )


def test_a_webhooks_secret_is_shown_once_and_rotated_with_an_overlap(there: Deployment) -> None:
    with of("hooks", there) as client:
        made = client.post("/webhooks", json={"url": "https://hooks.example.com/x", "description": "ours"})
        assert made.status_code == 201, made.text
        endpoint = made.json()["endpoint_id"]
        assert made.json()["secret"].startswith("whsec_")
        listed = client.get("/webhooks").json()["webhooks"]
        assert [each["endpoint_id"] for each in listed] == [endpoint]
        assert "secret" not in listed[0]
        again = client.post(f"/webhooks/{endpoint}/rotate").json()
        assert again["secret"] != made.json()["secret"]
        assert again["previous_secret_until"] is not None
        assert client.delete(f"/webhooks/{endpoint}").json() == {"webhooks": []}
        assert client.post(f"/webhooks/{endpoint}/rotate").json()["code"] == "unknown_target"


def test_an_endpoint_inside_the_network_is_refused(there: Deployment) -> None:
    with of("inside", there) as client:
        for url in ("http://hooks.example.com/", "https://2130706433/", "https://[::ffff:10.0.0.1]/"):
            said = client.post("/webhooks", json={"url": url})
            assert (said.status_code, said.json()["pointer"]) == (422, "/url"), url


def test_reading_and_changing_are_two_scopes_and_other_accounts_are_closed(there: Deployment) -> None:
    with (
        of("mine", there, "read") as reads,
        of("mine", there, "admin") as changes,
        of("else", there) as other,
    ):
        assert reads.get("").status_code == 200
        assert reads.put("", json={"recipients": []}).json()["code"] == "scope_missing"
        assert changes.put("", json={"recipients": []}).status_code == 200
        assert changes.get("/deliveries").json()["code"] == "scope_missing"
        foreign = other.get(f"{there.url('gateway')}/v1/accounts/mine/notifications")
        assert foreign.json()["code"] == "account_not_allowed"
