"""Notifications without anything outside: which addresses are refused, when what is tried, what mails and keys say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from pipeline.notifications import changes
from pipeline.notifications.addresses import Inside, address_fault, url_fault
from pipeline.notifications.book import NotificationBook, key_of
from pipeline.notifications.changes import Change
from pipeline.notifications.deliveries import begun, delivery_id, targets
from pipeline.notifications.keys import NotificationKeys
from pipeline.notifier.attempts import Said, after, begun_again
from pipeline.notifier.mail import compose
from pipeline.notifier.schedule import Limits, Receiver, Schedule
from pipeline.notifier.webhook import body_of, headers_of
from pipeline.settings import NotifierSettings
from schemas.account_alert import AccountAlert
from schemas.alert_delivery import AlertDelivery
from schemas.alert_webhook import AlertWebhook

AT = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
KEYS = NotificationKeys("new", {"new": b"n" * 32, "old": b"o" * 32})
SETTINGS = NotifierSettings(
    key_id="new", keys={"new": SecretStr("6e" * 32)}, public_url="https://credits.example.com"
)
ALERT = AccountAlert(
    alert_id="acme:2026-11-23T23:30:00.000Z:80:12", account_id="acme", kind="threshold", threshold=80,
    used=Decimal("1234.5"), base=Decimal(1500), period_start=datetime(2026, 10, 31, 23, 30, tzinfo=UTC),
    period_end=datetime(2026, 11, 30, 23, 30, tzinfo=UTC), accepted_at=AT, partition=0, offset=41, partition_seq=42,
)  # fmt: skip


def change(seconds: float = 0) -> Change:
    return Change(AT + timedelta(seconds=seconds), "tests")


def book_with(*records: Any) -> NotificationBook:
    book = NotificationBook(KEYS)
    for each in records:
        book.apply(each.model_dump_json().encode())
    return book


def recipients(*addresses: str, language: Any = "en", zone: str = "Europe/Berlin") -> Any:
    return changes.with_recipients(
        NotificationBook(KEYS),
        "acme",
        addresses=list(addresses),
        language=language,
        time_zone=zone,
        change=change(),
    )


def webhook(url: str = "https://hooks.example.com/x") -> Any:
    return changes.new_webhook(
        NotificationBook(KEYS), "acme", SETTINGS, url=url, description="", change=change()
    )


def delivery(**more: Any) -> AlertDelivery:
    made = begun(ALERT, targets(book_with(webhook()), "acme")[0], AT)
    return made.model_copy(update=more)


_INSIDE = """
    127.0.0.1 127.1 127.255.255.254 0 0.0.0.0 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.0.0.1.
    10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.100.100.200 169.254.169.254
    2852039166 0xA9FEA9FE 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 192.88.99.1 224.0.0.1 240.0.0.1
    255.255.255.255 localhost LOCALHOST. a.localhost
    [::1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:a9fe:a9fe] [::127.0.0.1] [fe80::1] [fe80::1%25eth0] [fc00::1]
    [fd00:ec2::254] [fec0::1] [ff02::1] [2002:7f00:1::] [2001:0:7f00:1::] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe]
    [64:ff9b:1::1] [2001:db8::1] [100::1]
"""
_OUTSIDE = """
    example.com hooks.example.com:8443 8.8.8.8 134744072 0x08.0x08.0x08.0x08 [2606:4700::1111] [::ffff:8.8.8.8]
    [64:ff9b::8.8.8.8] 172.32.0.1 xn--bcher-kva.example
"""
INSIDE, OUTSIDE = _INSIDE.split(), _OUTSIDE.split()


@pytest.mark.parametrize("host", INSIDE)
def test_an_address_that_leads_inside_is_refused_in_whatever_digits(host: str) -> None:
    fault = url_fault(f"https://{host}/path")
    assert fault is not None
    assert "outside" in fault


@pytest.mark.parametrize("host", OUTSIDE)
def test_an_address_outside_is_taken(host: str) -> None:
    assert url_fault(f"https://{host}/path?query=1") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "//example.com", "example.com", "https://", "https:///x",
        "https://user@example.com/", "https://user:pw@example.com/", "https://:@example.com/",
        "https://example.com/#x", "https://example.com:99999/", "https://[::1/", "https://10.0.0.1\\@example.com/",
        "https://exa mple.com/", "https://example.com/\n", "https://①②⑦.0.0.1/", f"https://example.com/{'x' * 2048}",
    ],
)  # fmt: skip
def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    assert url_fault(url) is not None


def test_a_deployment_may_allow_hosts_and_networks_of_its_own_and_no_others() -> None:
    allowed = Inside.of(("hooks.internal", "10.1.0.0/16", "fd00:1::/64"))
    for url in (
        "http://hooks.internal/x",
        "https://HOOKS.internal./",
        "http://10.1.2.3/",
        "https://[fd00:1::5]/",
    ):
        assert url_fault(url, allowed) is None, url
    for url in ("http://other.internal/", "https://10.2.0.1/", "http://8.8.8.8/", "https://127.0.0.1/"):
        assert url_fault(url, allowed) is not None, url
    assert address_fault(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert address_fault(ip_address("::ffff:10.2.2.3"), allowed) is not None


def test_waits_grow_as_they_are_set_and_then_the_delivery_is_dead() -> None:
    state, waits = delivery(), (5.0, 300.0)
    seen = []
    for _ in range(3):
        state = after(state, Said(503, "expected a 2xx answer, got 503"), AT, waits=waits, chance=0)
        seen.append((state.status, state.attempts, state.seq, state.next_attempt_at))
    assert seen == [
        ("retrying", 1, 2, AT + timedelta(seconds=5)),
        ("retrying", 2, 3, AT + timedelta(seconds=300)),
        ("dead", 3, 4, None),
    ]
    again = begun_again(state, AT)
    assert (again.status, again.attempts, again.redeliveries, again.seq) == ("pending", 0, 1, 5)
    assert again.delivery_id == state.delivery_id


def test_chance_shortens_a_wait_by_at_most_a_tenth() -> None:
    state = after(delivery(), Said(None, "no"), AT, waits=(100.0,), chance=0.999)
    assert state.next_attempt_at is not None
    assert 90 <= (state.next_attempt_at - AT).total_seconds() <= 90.2


def test_a_final_refusal_is_not_tried_again_and_success_has_no_next_try() -> None:
    dead = after(delivery(), Said(410, "gone", is_final=True), AT, waits=(5.0,), chance=0)
    assert (dead.status, dead.next_attempt_at, dead.last_code) == ("dead", None, 410)
    done = after(delivery(attempts=1), Said(204), AT, waits=(5.0,), chance=0)
    assert (done.status, done.attempts, done.last_error) == ("delivered", 2, "")


def schedule() -> Schedule[str]:
    return Schedule({"email": Limits(2, 2), "webhook": Limits(4, 2)})


def test_a_slow_receiver_holds_up_itself_only() -> None:
    plan, slow, other = schedule(), Receiver("webhook", "slow"), Receiver("webhook", "other")
    for number in range(50):
        plan.add(f"slow-{number}", slow, 0)
    plan.add("other", other, 0)
    assert [name for name, _ in plan.take(1)] == ["slow-0", "other", "slow-1"]
    assert plan.take(1) == []
    plan.done(other)
    assert plan.take(1) == []
    plan.done(slow)
    assert plan.take(1) == [("slow-2", slow)]


def test_an_outage_of_mail_holds_up_no_webhook_and_a_channel_has_its_limit() -> None:
    plan = schedule()
    for number in range(9):
        plan.add(f"mail-{number}", Receiver("email", "server"), 0)
        plan.add(f"hook-{number}", Receiver("webhook", f"host-{number}"), 0)
    taken = [name for name, _ in plan.take(0)]
    assert sorted(taken) == ["hook-0", "hook-1", "hook-2", "hook-3", "mail-0", "mail-1"]


def test_nothing_is_tried_before_its_instant() -> None:
    plan = schedule()
    plan.add("later", Receiver("email", "server"), 10)
    assert plan.take(9.9) == []
    assert [name for name, _ in plan.take(10)] == ["later"]


def test_a_mail_says_what_was_used_of_what_and_when_there_is_more() -> None:
    settings = recipients("owner@example.com")
    made = begun(ALERT, targets(book_with(settings), "acme")[0], AT)
    mail = compose(made, settings.recipients[0], settings, SETTINGS, KEYS, AT)
    assert (
        mail["Subject"] == "You have used 80 % of your November credits"
    )  # In Berlin it is November already.
    assert mail["To"] == "owner@example.com"
    assert mail["Message-ID"] == f"<{made.delivery_id}@localhost>"
    text, html = (part.get_content() for part in mail.iter_parts())
    for said in ("1,234.5", "1,500", "1 December 2026, 00:30 (Europe/Berlin)", "because this address"):
        assert said in text
        assert said in html
    assert html.count("<a href=") == 2  # The button, and the way out.
    assert mail["List-Unsubscribe"].startswith(
        "<https://credits.example.com/notifications/unsubscribe?account=acme&"
    )
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def part_of(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def test_a_mail_speaks_the_accounts_language() -> None:
    settings = recipients("owner@example.com", language="de")
    made = begun(ALERT, targets(book_with(settings), "acme")[0], AT)
    mail = compose(made, settings.recipients[0], settings, SETTINGS, KEYS, AT)
    assert mail["Subject"] == "Sie haben 80 % Ihrer Credits für November verbraucht"
    assert "1.234,5" in part_of(mail, "plain")


def test_what_an_account_is_called_is_no_markup_and_no_header() -> None:
    settings = recipients("owner@example.com")
    made = begun(ALERT, targets(book_with(settings), "acme")[0], AT).model_copy(
        update={"account_id": "<b>&x"}
    )
    html = part_of(compose(made, settings.recipients[0], settings, SETTINGS, KEYS, AT), "html")
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;x" in html


def test_a_webhook_is_verified_by_the_library_with_either_secret_during_an_overlap() -> None:
    first = webhook()
    second = changes.rotated(KEYS, first, overlap=timedelta(hours=24), change=change())
    old, new = (changes.shown_secret(KEYS, each, each.secrets[0]) or "" for each in (first, second))
    assert old != new
    body, now = body_of(delivery()), datetime.now(UTC)
    both = headers_of(delivery(), body, changes.signing_secrets(KEYS, second, AT), now)
    for secret in (old, new):
        said = Webhook(secret).verify(body, both)
        assert (
            AlertWebhook.model_validate_json(body).data.alert_id == said["data"]["alert_id"] == ALERT.alert_id
        )
    later = changes.signing_secrets(KEYS, second, AT + timedelta(hours=24))
    assert later == [new]


def test_the_topic_holds_no_secret_and_another_key_makes_another() -> None:
    made = webhook()
    secret = changes.shown_secret(KEYS, made, made.secrets[0])
    assert secret is not None
    assert secret.removeprefix("whsec_") not in made.model_dump_json()
    other = NotificationKeys("new", {"new": b"x" * 32})
    assert changes.shown_secret(other, made, made.secrets[0]) != secret
    assert changes.shown_secret(NotificationKeys("x", {}), made, made.secrets[0]) is None


@pytest.mark.parametrize(
    "hurt",
    [
        lambda record: record.model_copy(update={"recipients": []}),
        lambda record: record.model_copy(update={"account_id": "other"}),
        lambda record: record.model_copy(update={"keyid": "old"}),
        lambda record: NotificationKeys("new", {"new": b"x" * 32}).signed(record),
    ],
)  # fmt: skip
def test_a_record_that_no_key_of_ours_has_signed_counts_for_nothing(hurt: Callable[[Any], Any]) -> None:
    book = book_with(hurt(recipients("owner@example.com")))
    assert (book.account("acme"), book.account("other"), book.refused) == (None, None, 1)


def test_an_older_record_that_is_written_again_changes_nothing() -> None:
    first = webhook()
    gone = changes.deleted(KEYS, first, change())
    assert book_with(first, gone, first).webhooks("acme") == []
    assert key_of(first) == key_of(gone)
    assert not gone.secrets


def test_a_token_ends_mails_to_one_recipient_of_one_account() -> None:
    token = KEYS.unsubscribe_token("acme", "rcp_1")
    assert KEYS.may_unsubscribe(token, "acme", "rcp_1")
    for account, recipient, shown in (
        ("acme", "rcp_2", token), ("other", "rcp_1", token), ("acme", "rcp_1", token[:-1]), ("acme", "rcp_1", "\udc80"),
    ):  # fmt: skip
        assert not KEYS.may_unsubscribe(shown, account, recipient)


def test_a_delivery_is_known_by_alert_and_target_and_shows_no_address() -> None:
    settings = recipients("owner@example.com", "Owner@Example.com")
    (target,) = targets(book_with(settings), "acme")
    made = begun(ALERT, target, AT)
    assert made.delivery_id == delivery_id(ALERT.alert_id, target.target_id)
    assert "owner@" not in made.model_dump_json()
    assert made.target == "o…@example.com"
