"""Whom alerts are sent to, and that they arrive: a gateway, a worker, a sink and a notifier before real receivers."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import Message
from typing import Any

import httpx2 as httpx
import pytest
from standardwebhooks import Webhook

from pipeline.gateway import notification_log
from pipeline.notifications.changes import Change
from pipeline.notifications.deliveries import requested_tests, targets
from pipeline.notifications.keys import NotificationKeys
from pipeline.settings import ClickHouseSettings, KafkaSettings
from schemas.http_api import Scope
from tests.conftest import own_settings
from tests.gateways import CLOUD_EVENT, Deployment, deployed, event, make_key
from tests.integration.receivers import Hooks, Mailbox, hooks, mailbox
from tests.stack import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with own_settings(kafka, clickhouse, tmp_path_factory.mktemp("notifications")) as made:
        # The tests' receivers are on this machine.
        allowed = made.notifier.model_copy(update={"inside_allowed": ("127.0.0.0/30",)})
        with deployed(made.model_copy(update={"notifier": allowed})) as deployment:
            yield deployment


def of(account: str, there: Deployment, *scopes: Scope) -> httpx.Client:
    key = make_key(there.settings, scopes=scopes or ("read", "billing"), accounts=[account])
    return httpx.Client(
        base_url=f"{there.url('gateway')}/v1/accounts/{account}",
        headers={"authorization": f"Bearer {key}"},
        timeout=30,
    )


def test_settings_are_read_as_they_were_written(there: Deployment) -> None:
    with of("settings", there) as client:
        assert client.get("/notifications").json() == {
            "account_id": "settings", "recipients": [], "language": "en", "time_zone": "UTC", "webhooks": [],
        }  # fmt: skip
        wanted = {
            "recipients": ["b@example.com", "A@example.com", "a@Example.com"],
            "time_zone": "Asia/Tokyo",
        }
        said = client.put("/notifications", json=wanted)
        assert said.status_code == 200, said.text
        assert said.json() == client.get("/notifications").json()
        assert [each["address"] for each in said.json()["recipients"]] == ["b@example.com", "A@example.com"]
        assert said.json()["time_zone"] == "Asia/Tokyo"
        assert client.put("/notifications", json={"recipients": []}).json()["recipients"] == []


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
        said = client.put("/notifications", json=wanted)
        assert (said.status_code, said.json()["code"], said.json().get("pointer")) == (
            422,
            "invalid_data",
            pointer,
        )


def test_a_webhooks_secret_is_shown_once_and_rotated_with_an_overlap(there: Deployment) -> None:
    with of("hooks", there) as client:
        made = client.post(
            "/notifications/webhooks", json={"url": "https://hooks.example.com/x", "description": "ours"}
        )
        assert made.status_code == 201, made.text
        endpoint = made.json()["endpoint_id"]
        assert made.json()["secret"].startswith("whsec_")
        listed = client.get("/notifications/webhooks").json()["webhooks"]
        assert [each["endpoint_id"] for each in listed] == [endpoint]
        assert "secret" not in listed[0]
        again = client.post(f"/notifications/webhooks/{endpoint}/rotate").json()
        assert again["secret"] != made.json()["secret"]
        assert again["previous_secret_until"] is not None
        assert client.delete(f"/notifications/webhooks/{endpoint}").json() == {"webhooks": []}
        assert client.post(f"/notifications/webhooks/{endpoint}/rotate").json()["code"] == "unknown_target"


def test_an_endpoint_inside_the_network_is_refused(there: Deployment) -> None:
    with of("inside", there) as client:
        for url in ("http://hooks.example.com/", "https://2130706438/", "https://[::ffff:10.0.0.1]/"):
            said = client.post("/notifications/webhooks", json={"url": url})
            assert (said.status_code, said.json().get("pointer")) == (422, "/url"), url


def test_reading_and_changing_are_two_scopes_and_other_accounts_are_closed(there: Deployment) -> None:
    with (
        of("mine", there, "read") as reads,
        of("mine", there, "billing") as changes,
        of("else", there) as other,
    ):
        assert reads.get("/notifications").status_code == 200
        assert reads.put("/notifications", json={"recipients": []}).json()["code"] == "scope_missing"
        assert changes.put("/notifications", json={"recipients": []}).status_code == 200
        assert changes.get("/notifications/deliveries").json()["code"] == "scope_missing"
        foreign = other.get(f"{there.url('gateway')}/v1/accounts/mine/notifications")
        assert foreign.json()["code"] == "account_not_allowed"


@pytest.fixture(scope="module")
def outside() -> Iterator[tuple[Mailbox, Hooks]]:
    with mailbox() as box, hooks() as receiver:
        yield box, receiver


def start_notifier(there: Deployment, box: Mailbox) -> None:
    chosen: dict[str, object] = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": box.port,
        "SMTP_TLS": "none",
        "RETRY_SECONDS": json.dumps([0.3] * 200),
        "PUBLIC_URL": there.url("gateway"),
    }
    environment = {f"CREDITSTREAM_NOTIFIER__{name}": str(value) for name, value in chosen.items()}
    there.start("notifier", "notifier", **environment)


def keep_a_notifier(there: Deployment, box: Mailbox) -> None:
    running = there.processes.get("notifier")
    if running is None or running.poll() is not None:
        start_notifier(there, box)


def kill(there: Deployment, *names: str) -> None:
    for name in names:
        there.processes[name].kill()
        there.processes[name].wait()


def use(there: Deployment, account: str, images: int) -> None:
    with there.client() as client:
        said = client.post("/v1/events", json=event(account, images=images), headers=CLOUD_EVENT)
        assert said.json()["status"] == "accepted", said.text


def log_of(client: httpx.Client, count: int, status: str) -> list[dict[str, Any]]:
    """The delivery log, once it has so many deliveries and all are like this."""

    def found() -> list[dict[str, Any]] | None:
        items: list[dict[str, Any]] = client.get("/notifications/deliveries").json()["items"]
        return items if len(items) >= count and all(each["status"] == status for each in items) else None

    return wait_until(f"{count} deliveries are {status}", found, 90)


def subjects(mails: list[Message]) -> Counter[str]:
    return Counter(str(each["Subject"]) for each in mails)


def test_each_alert_arrives_once_at_each_target_though_worker_and_notifier_are_killed(
    there: Deployment, outside: tuple[Mailbox, Hooks]
) -> None:
    box, receiver = outside
    account = there.open("acme")
    with there.client() as admin, of(account, there) as client:
        thresholds = {"overage_ceiling": "200", "alert_thresholds": [80, 100, 110]}
        assert admin.patch(f"/v1/accounts/{account}/settings", json=thresholds).status_code == 200
        assert client.put("/notifications", json={"recipients": ["owner@example.com"]}).status_code == 200
        hook = client.post("/notifications/webhooks", json={"url": receiver.url}).json()
        assert client.post("/notifications/webhooks", json={"url": "https://2130706438/"}).status_code == 422

        # Both are away: each is tried, and again, until the notifier is killed, and the worker with it.
        box.answer, receiver.status = "451 not now", 503
        start_notifier(there, box)
        use(there, account, 400)
        wait_until("both were tried twice", lambda: len(box.refused) > 1 and len(receiver.refused) > 1, 90)
        assert len(log_of(client, 2, "retrying")) == 2
        kill(there, "notifier", "worker")
        box.answer, receiver.status = "250 OK", 204
        use(there, account, 100)
        there.start("worker", "worker")
        start_notifier(there, box)
        wait_until("80 and 100 % have come", lambda: len(box.mails) >= 2 and len(receiver.taken) >= 2, 90)
        log_of(client, 4, "delivered")
        verified = read_by_the_library(receiver, hook["secret"])

        # Killed while the receiver has the message and has not answered: it comes again, under the same id.
        receiver.held.clear()
        while receiver.begun.acquire(blocking=False):
            pass
        use(there, account, 50)
        assert receiver.begun.acquire(timeout=90)
        wait_until(
            "the mail of 110 % is in the log as delivered",
            lambda: statuses(client)["email", 110] == "delivered",
            90,
        )
        kill(there, "notifier")
        receiver.held.set()
        start_notifier(there, box)
        items = log_of(client, 6, "delivered")
        verified += read_by_the_library(receiver, hook["secret"], since=len(verified))

    assert subjects(box.mails) == {
        f"You have used {each} % of your {month()} credits": 1 for each in (80, 100, 110)
    }
    assert len({each["Message-ID"] for each in box.mails}) == 3
    by_id = {headers["webhook-id"]: each for (headers, _), each in zip(receiver.taken, verified, strict=True)}
    assert sorted(each["threshold"] for each in by_id.values()) == [80, 100, 110]
    assert [each["threshold"] for each in verified].count(80) == 1
    assert {each["delivery_id"] for each in items if each["channel"] == "webhook"} == set(by_id)
    assert Counter((each["channel"], each["threshold"]) for each in items) == Counter(
        (channel, threshold) for channel in ("email", "webhook") for threshold in (80, 100, 110)
    )


def read_by_the_library(receiver: Hooks, secret: str, since: int = 0) -> list[dict[str, Any]]:
    """The alerts in what was taken; the library refuses what is older than five minutes, so do not wait with it."""
    return [Webhook(secret).verify(body, headers)["data"] for headers, body in receiver.taken[since:]]


def statuses(client: httpx.Client) -> dict[tuple[str, int | None], str]:
    items = client.get("/notifications/deliveries").json()["items"]
    return defaultdict(str, {(each["channel"], each["threshold"]): each["status"] for each in items})


def month() -> str:
    return f"{datetime.now(UTC):%B}"


def forge_a_test(there: Deployment, account: str) -> None:
    """A request by whoever may write to the topic and has no key."""
    keys = NotificationKeys("test-notifications", {"test-notifications": b"x" * 32})
    book = notification_log.read(there.settings)
    change = Change(datetime.now(UTC).replace(microsecond=0), "nobody")
    notification_log.ask(
        there.settings,
        *requested_tests(keys, account, targets(book, account), test_id="forged", change=change),
    )


def test_a_test_and_a_redelivery_are_asked_for_and_a_dead_end_is_seen(
    there: Deployment, outside: tuple[Mailbox, Hooks]
) -> None:
    box, receiver = outside
    keep_a_notifier(there, box)
    before = len(receiver.taken)
    with of("asks", there) as client:
        assert client.post("/notifications/test", json={}).json()["code"] == "unknown_target"
        hook = client.post("/notifications/webhooks", json={"url": receiver.url}).json()
        receiver.status = 410
        forge_a_test(there, "asks")
        (asked,) = client.post("/notifications/test", json={"target_id": hook["endpoint_id"]}).json()[
            "delivery_ids"
        ]
        (dead,) = log_of(client, 1, "dead")
        assert (dead["delivery_id"], dead["kind"], dead["last_code"]) == (asked, "test", 410)
        receiver.status = 204
        client.post(f"/notifications/webhooks/{hook['endpoint_id']}/rotate")
        assert client.post(f"/notifications/deliveries/{asked}/redeliver").status_code == 202
        (done,) = log_of(client, 1, "delivered")
        assert (done["delivery_id"], done["redeliveries"], done["attempts"]) == (asked, 1, 1)
        ((headers, body),) = receiver.taken[before:]
        assert headers["webhook-id"] == asked
        said = Webhook(hook["secret"]).verify(body, headers)  # The old secret signs too.
        assert said["type"] == "account.alert.test"
        unknown = client.post(f"/notifications/deliveries/dlv_{'0' * 32}/redeliver")
        assert unknown.json()["code"] == "unknown_delivery"


def test_the_link_of_a_mail_ends_the_mails(there: Deployment, outside: tuple[Mailbox, Hooks]) -> None:
    box, _ = outside
    keep_a_notifier(there, box)
    before = len(box.mails)
    with of("leaves", there) as client:
        client.put("/notifications", json={"recipients": ["leaver@example.com", "stays@example.com"]})
        client.post("/notifications/test", json={})
        wait_until("both mails have come", lambda: len(box.mails) == before + 2, 90)
        mail = next(each for each in box.mails[before:] if each["To"] == "leaver@example.com")
        link = str(mail["List-Unsubscribe"]).strip("<>")
        assert httpx.get(link).status_code == 200  # A scanner's look changes nothing.
        assert len(client.get("/notifications").json()["recipients"]) == 2
        assert httpx.post(link[:-1]).status_code == 401
        assert httpx.post(link).status_code == 200
        assert [each["address"] for each in client.get("/notifications").json()["recipients"]] == [
            "stays@example.com"
        ]
