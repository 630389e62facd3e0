"""What leaves the notifier, against real servers on loopback: to the address that was judged, within its limits."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from pipeline.local.ports import free_port
from pipeline.notifier.attempts import Said
from pipeline.notifier.mail import OUTBOX, Outbox, SmtpServer
from pipeline.notifier.webhook import Poster
from pipeline.settings import NotifierSettings
from tests.integration.receivers import Hooks, hooks, mailbox
from tests.unit.test_notifier import delivery

pytestmark = pytest.mark.integration
SECRET = "whsec_" + "QUFB" * 8
SENT = delivery()


def post(url: str, *, tls: ssl.SSLContext | None = None, **limits: Any) -> Said:
    poster = Poster(NotifierSettings(**limits))
    if tls is not None:
        poster._tls = tls
    try:
        return asyncio.run(poster.post(url, SENT, [SECRET], datetime.now(UTC)))
    finally:
        poster.close()


@pytest.fixture
def receiver() -> Iterator[Hooks]:
    with hooks() as made:
        yield made


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Each look-up of a name gets the next answer; the names that were asked for."""
    asked, left, real = list[str](), list(answers), socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if not host.endswith(".test"):
            return real(host, port, *args, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_message_arrives_signed_under_its_id(receiver: Hooks) -> None:
    assert post(f"{receiver.url}/x", inside_allowed=("127.0.0.0/8",)) == Said(204)
    ((headers, body),) = receiver.taken
    assert Webhook(SECRET).verify(body, headers)["type"] == "account.alert.threshold"
    assert headers["webhook-id"] == SENT.delivery_id
    assert headers["host"] == receiver.url.removeprefix("http://")


def test_a_name_that_leads_inside_is_refused_after_its_resolution(
    receiver: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"])
    for _ in range(3):
        said = post("https://hooks.test/")
        assert said.is_final
        assert "outside" in said.error
    assert receiver.taken == []


def test_a_name_that_changes_its_mind_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the first answer may pass, the second leads inside. The connection goes to the one that was judged."""
    asked = resolving(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    with hooks("127.0.0.2") as judged, hooks(port=int(judged.url.rpartition(":")[2])) as inside:
        port = inside.url.rpartition(":")[2]
        monkeypatch.setattr("pipeline.notifier.webhook.url_fault", lambda *_: None)  # http, for this test.
        assert post(f"http://hooks.test:{port}/", inside_allowed=("127.0.0.2/32",)) == Said(204)
        assert (len(judged.taken), len(inside.taken), asked) == (1, 0, ["hooks.test"])
        assert judged.taken[0][0]["host"] == f"hooks.test:{port}"


def test_a_redirect_is_not_followed(receiver: Hooks) -> None:
    receiver.status, receiver.headers = 307, {"Location": f"{receiver.url}/inside"}
    said = post(receiver.url, inside_allowed=("127.0.0.0/8",))
    assert (said.code, said.is_final, len(receiver.refused)) == (307, False, 1)


def test_an_answer_is_read_within_limits_of_time_and_bytes(receiver: Hooks) -> None:
    allowed: dict[str, Any] = {"inside_allowed": ("127.0.0.0/8",)}
    receiver.status, receiver.body = 200, b"x" * 50_000_000
    assert post(receiver.url, webhook_answer_bytes_max=1000, **allowed) == Said(200)
    assert receiver.cut_off.wait(10)
    receiver.held.clear()
    said = post(receiver.url, webhook_timeout_seconds=0.3, **allowed)
    assert said == Said(None, "expected an answer within 0.3 s")


def test_what_cannot_be_reached_is_tried_again_and_410_is_not(receiver: Hooks) -> None:
    allowed: dict[str, Any] = {"inside_allowed": ("127.0.0.0/8",)}
    nobody = post(f"http://127.0.0.1:{free_port()}/", **allowed)
    assert (nobody.code, nobody.error, nobody.is_final) == (
        None,
        "expected an answer, got ConnectError",
        False,
    )
    receiver.status = 410
    assert post(receiver.url, **allowed).is_final


def test_tls_is_held_to_the_name_and_not_to_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=hooks.test", "-addext", "subjectAltName=DNS:hooks.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=str(certificate))
    resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.1"])
    with hooks(tls=served) as made:
        port = made.url.rpartition(":")[2]
        allowed: dict[str, Any] = {"inside_allowed": ("127.0.0.0/8",), "tls": trusted}
        assert post(f"https://hooks.test:{port}/", **allowed) == Said(204)
        assert post(f"https://other.test:{port}/", **allowed).error == "expected an answer, got ConnectError"
        assert len(made.taken) == 1


def mail() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "us@example.com", "owner@example.com", "Für Sie"
    made.set_content("…")
    return made


def test_a_mail_server_takes_refuses_for_now_refuses_for_good_or_is_away() -> None:
    with mailbox() as box:
        server = SmtpServer(NotifierSettings(smtp_host="127.0.0.1", smtp_port=box.port, smtp_tls="none"))

        def send(answer: str) -> Said:
            box.answer = answer
            return asyncio.run(server.send(mail(), SENT))

        assert send("250 OK") == Said(250)
        assert [each["Subject"] for each in box.mails] == ["Für Sie"]
        for_now, for_good = send("451 later <owner@example.com>"), send("554 never <owner@example.com>")
        assert [(each.code, each.is_final) for each in (for_now, for_good)] == [(451, False), (554, True)]
        assert "owner" not in for_now.error + for_good.error
    away = asyncio.run(server.send(mail(), SENT))
    assert (away.code, away.is_final) == (None, False)


def test_a_server_without_tls_gets_no_mail_unless_that_is_allowed() -> None:
    with mailbox() as box:
        server = SmtpServer(NotifierSettings(smtp_host="127.0.0.1", smtp_port=box.port))
        assert asyncio.run(server.send(mail(), SENT)).error
        assert box.mails == []


def test_without_a_mail_server_each_mail_is_one_file_however_often_it_is_tried(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for _ in range(2):
        assert asyncio.run(outbox.send(mail(), SENT)) == Said(250)
    (file,) = (tmp_path / OUTBOX).iterdir()
    assert file.name == f"{SENT.delivery_id}.eml"
    assert b"To: owner@example.com" in file.read_bytes()
