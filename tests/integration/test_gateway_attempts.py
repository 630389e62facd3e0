"""Attempts on the gateway, each with the answer that is expected. One key, bound to one account, tries everything."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest

from pipeline.client.commands import command_key
from pipeline.gateway import key_log
from pipeline.gateway.keys import EVERY_SCOPE, new_key, signed
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from tests.conftest import own_settings
from tests.gateways import BATCH, CLOUD_EVENT, Deployment, deployed, event, make_key, square
from tests.stack import wait_until

pytestmark = pytest.mark.integration
OWN, OTHER = "mallory", "victim"
NOT_ALLOWED, INVALID = "account_not_allowed", "invalid_parameter"
MALFORMED, ENVELOPE = "malformed_json", "invalid_envelope"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    limits = {"body_bytes_max": 100_000, "body_seconds_max": 1, "head_seconds_max": 1, "batch_events_max": 50}
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("attempts")) as settings,
        deployed(settings, **limits) as made,
    ):
        for account in (OWN, OTHER):
            made.open(account)
        with made.client() as client:
            for account in (OWN, OTHER):
                client.post("/v1/events", json=[event(account) for _ in range(3)], headers=BATCH)
        yield made


@pytest.fixture(scope="module")
def bound(there: Deployment) -> Iterator[httpx.Client]:
    """Whoever holds a key that is bound to the own account, and may neither bill nor operate."""
    key = make_key(there.settings, scopes=("ingest", "hold", "read"), accounts=[OWN])
    with there.client(key) as client:
        wait_until("the key is known", lambda: client.get(f"/v1/accounts/{OWN}/balance").status_code == 200)
        yield client


class Attempt(NamedTuple):
    name: str
    method: str
    path: str
    status: int
    code: str
    body: object = None
    headers: dict[str, str] = {}  # noqa: RUF012  (never changed)


def hold(**more: Any) -> dict[str, Any]:
    return {"hold_id": "h", "usage": square(), **more}


DEEP = "[" * 5000 + "]" * 5000
ATTEMPTS = [
    # Another account.
    Attempt("in the path of a balance", "GET", f"/v1/accounts/{OTHER}/balance", 403, NOT_ALLOWED),
    Attempt("in the path of usage", "GET", f"/v1/accounts/{OTHER}/usage", 403, NOT_ALLOWED),
    Attempt("in the path of an export", "GET", f"/v1/accounts/{OTHER}/usage/export", 403, NOT_ALLOWED),
    Attempt("in the path of a ledger", "GET", f"/v1/accounts/{OTHER}/ledger", 403, NOT_ALLOWED),
    Attempt("that does not exist", "GET", "/v1/accounts/nobody/balance", 403, NOT_ALLOWED),
    Attempt("by two slashes", "GET", f"/v1/accounts/{OWN}//{OTHER}/balance", 404, "not_found"),
    Attempt("by dots", "GET", f"/v1/accounts/{OWN}%2F..%2F{OTHER}/balance", 404, "not_found"),
    Attempt("by a zero byte", "GET", f"/v1/accounts/{OTHER}%00/balance", 403, NOT_ALLOWED),
    Attempt("by a line break", "GET", f"/v1/accounts/{OWN}%0A/balance", 403, NOT_ALLOWED),
    Attempt("in other letters", "GET", f"/v1/accounts/{OWN.upper()}/balance", 403, NOT_ALLOWED),
    Attempt("in full-width letters", "GET", "/v1/accounts/%EF%BD%8Dallory/balance", 403, NOT_ALLOWED),
    Attempt("as a second parameter", "GET", f"/v1/accounts/{OTHER}/usage?account_id={OWN}", 403, NOT_ALLOWED),
    Attempt("in the body of a hold", "POST", "/v1/holds", 403, NOT_ALLOWED, hold(account_id=OTHER)),
    Attempt("as a list", "POST", "/v1/holds", 422, "account_needed", hold(account_id=[OWN, OTHER])),
    Attempt("in the body of a release", "POST", "/v1/holds/h/release", 403, NOT_ALLOWED, {"account_id": OTHER}),
    Attempt("as an event's subject", "POST", "/v1/events", 403, NOT_ALLOWED, event(OTHER), CLOUD_EVENT),
    # Scopes.
    Attempt("to open an account", "POST", "/v1/accounts", 403, "scope_missing", {"account_id": OWN, "plan": "pro"}),
    Attempt("to give credits", "POST", f"/v1/accounts/{OWN}/grants", 403, "scope_missing", {}),
    Attempt("to change the plan", "POST", f"/v1/accounts/{OWN}/plan", 403, "scope_missing", {"plan": "pro"}),
    Attempt("to change settings", "PATCH", f"/v1/accounts/{OWN}/settings", 403, "scope_missing", {}),
    Attempt("to make a key", "POST", "/v1/keys", 403, "scope_missing", {"name": "x", "scopes": ["admin"]}),
    Attempt("to list keys", "GET", "/v1/keys", 403, "scope_missing"),
    # Commands where only usage may be.
    Attempt("a command as an event", "POST", "/v1/events", 422, "unknown_type",
            {**event(OWN), "type": "org.apimage.account.grant.v1", "data": {}}, CLOUD_EVENT),
    Attempt("a tick as an event", "POST", "/v1/events", 422, "unknown_type",
            {**event(OWN), "type": "org.apimage.tick.v1"}, CLOUD_EVENT),
    Attempt("a forged signature", "POST", "/v1/events", 422, "unknown_type",
            {**event(OWN), "type": "org.apimage.account.open.v1", "keyid": "test-key", "signature": "0" * 64},
            CLOUD_EVENT),
    # Sizes and forms.
    Attempt("too large a body", "POST", "/v1/events", 413, "body_too_large", {"x": "y" * 200_000}, CLOUD_EVENT),
    Attempt("too many events", "POST", "/v1/events", 413, "batch_too_large", [1] * 51, BATCH),
    Attempt("deep JSON", "POST", "/v1/events", 400, MALFORMED, DEEP.encode(), CLOUD_EVENT),
    Attempt("deep data", "POST", "/v1/events", 422, "invalid_data",
            {**event(OWN), "data": {**event(OWN)["data"], "x": json.loads("[" * 99 + "]" * 99)}}, CLOUD_EVENT),
    Attempt("a deep hold", "POST", "/v1/holds", 400, MALFORMED, DEEP.encode(), JSON),
    Attempt("a hold that is a list", "POST", "/v1/holds", 400, MALFORMED, [], JSON),
    Attempt("not JSON", "POST", "/v1/holds", 400, MALFORMED, b"{'hold_id'}", JSON),
    Attempt("UTF-16", "POST", "/v1/events", 400, MALFORMED, json.dumps(event(OWN)).encode("utf-16"), CLOUD_EVENT),
    Attempt("a lone surrogate", "POST", "/v1/holds", 400, MALFORMED, b'{"hold_id": "\\ud800"}', JSON),
    Attempt("NaN", "POST", "/v1/holds", 400, MALFORMED, b'{"hold_id": "x", "credits": NaN}', JSON),
    Attempt("credits as a float", "POST", "/v1/holds", 422, "invalid_data", {"hold_id": "x", "credits": 0.1}),
    Attempt("credits without end", "POST", "/v1/holds", 422, "invalid_data", {"hold_id": "x", "credits": "9" * 5000}),
    Attempt("a hold of less than nothing", "POST", "/v1/holds", 422, "invalid_data", {"hold_id": "x", "credits": "-1"}),
    Attempt("another hold in the body", "POST", "/v1/holds/a/release", 404, "unknown_hold", {"hold_id": "b"}),
    Attempt("another charset", "POST", "/v1/holds", 415, "unsupported_media_type", b"{}",
            {"content-type": "application/json; charset=utf-7"}),
    Attempt("a form", "POST", "/v1/holds", 415, "unsupported_media_type", b"hold_id=h",
            {"content-type": "application/x-www-form-urlencoded"}),
    Attempt("no content type", "POST", "/v1/events", 415, "unsupported_media_type", b"{}"),
    Attempt("a header of binary mode for data", "POST", "/v1/events", 422, ENVELOPE, b"{}", {**JSON, "ce-data": "{}"}),
    Attempt("broken UTF-8 in a header", "POST", "/v1/events", 422, ENVELOPE, b"{}", {**JSON, "ce-id": "%ff"}),
    Attempt("a subject against the header", "POST", "/v1/events", 403, NOT_ALLOWED, event(OTHER),
            {**CLOUD_EVENT, "ce-subject": OWN}),
    Attempt("an idempotency key too long", "POST", "/v1/holds", 422, INVALID, hold(), {"idempotency-key": "x" * 201}),
    Attempt("a method that is none", "DELETE", f"/v1/accounts/{OWN}/balance", 405, "method_not_allowed"),
    # Filters.
    *[
        Attempt(f"SQL in {name}", "GET", f"/v1/accounts/{OWN}/usage?{name}=x'%20OR%201=1--", 422, INVALID)
        for name in ("from", "to", "tz", "service", "outcome", "channel", "limit")
    ],
    Attempt("SQL in the cursor", "GET", f"/v1/accounts/{OWN}/usage?cursor='%20OR%201=1--", 400, "invalid_cursor"),
    Attempt("SQL in by", "GET", f"/v1/accounts/{OWN}/usage/totals?by=1;DROP", 422, INVALID),
    Attempt("SQL in the format", "GET", f"/v1/accounts/{OWN}/usage/export?format=csv;", 422, INVALID),
    Attempt("SQL in a charge", "GET", f"/v1/accounts/{OWN}/charges/x'%20OR%20'1'='1", 404, "unknown_charge"),
    Attempt("a parameter's braces in a charge", "GET", f"/v1/accounts/{OWN}/charges/%7Baccount:String%7D", 404,
            "unknown_charge"),
    Attempt("a file as a time zone", "GET", f"/v1/accounts/{OWN}/usage?tz=../../../etc/passwd", 422, INVALID),
    Attempt("a directory as a time zone", "GET", f"/v1/accounts/{OWN}/usage?tz=Europe", 422, INVALID),
    Attempt("an absolute time zone", "GET", f"/v1/accounts/{OWN}/usage?tz=/etc/localtime", 422, INVALID),
    Attempt("a local time", "GET", f"/v1/accounts/{OWN}/usage?from=2026-11-01T00:00:00", 422, INVALID),
    Attempt("a year too far", "GET", f"/v1/accounts/{OWN}/usage?to=9999-12-31", 422, INVALID),
    Attempt("other digits", "GET", f"/v1/accounts/{OWN}/usage?from=%D9%A2%D9%A0%D9%A2%D9%A6-11-01", 422, INVALID),
    Attempt("a limit below one", "GET", f"/v1/accounts/{OWN}/usage?limit=0", 422, INVALID),
]  # fmt: skip


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_an_attempt_gets_its_answer_and_nothing_else(bound: httpx.Client, attempt: Attempt) -> None:
    headers, content = attempt.headers, attempt.body if isinstance(attempt.body, bytes) else None
    if isinstance(attempt.body, dict | list):
        headers, content = {**JSON, **headers}, json.dumps(attempt.body).encode()
    said = bound.request(attempt.method, attempt.path, content=content, headers=headers)
    assert (said.status_code, said.json()["code"]) == (attempt.status, attempt.code), said.text
    assert said.headers["content-type"] == "application/problem+json"
    for inside in ("Traceback", "DB::Exception", "SELECT"):
        assert inside not in said.text


def changed(key: str, position: int) -> str:
    return key[:position] + ("0" if key[position] != "0" else "1") + key[position + 1 :]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("none", None),
        ("empty", ""),
        ("another scheme", "Basic {key}"),
        ("no scheme", "{key}"),
        ("cut off", "Bearer {cut}"),
        ("one digit of the secret changed", "Bearer {secret_changed}"),
        ("another key's id", "Bearer {id_changed}"),
        ("something behind it", "Bearer {key}0"),
        ("a space behind it", "Bearer {key} x"),
        ("in capitals", "Bearer {upper}"),
        ("its hash", "Bearer {hash}"),
        ("letters beyond ASCII", "Bearer cs_live_é"),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_key_that_is_not_whole_and_ours_opens_nothing(
    there: Deployment, name: str, shown: str | None
) -> None:
    key = there.key
    known = key_log.read(there.settings).get(key.split("_")[2])
    assert known is not None
    forms = {
        "key": key,
        "cut": key[:-1],
        "secret_changed": changed(key, len(key) - 1),
        "id_changed": changed(key, 10),
        "upper": key.upper(),
        "hash": f"cs_live_{known.key_id}_{known.sha256}",
    }
    headers = [] if shown is None else [(b"authorization", shown.format(**forms).encode())]
    said = httpx.get(f"{there.url('gateway')}/v1/keys", headers=headers)
    assert (said.status_code, said.json()["code"]) == (401, "unauthenticated"), name
    assert said.headers["www-authenticate"].startswith("Bearer")


def test_two_keys_at_once_open_nothing(there: Deployment) -> None:
    headers = [("authorization", f"Bearer {there.key}")] * 2
    assert httpx.get(f"{there.url('gateway')}/v1/keys", headers=headers).status_code == 401


def test_a_key_that_somebody_wrote_to_kafka_by_himself_counts_for_nothing(there: Deployment) -> None:
    signing = command_key(there.settings)
    assert signing is not None
    made = new_key(signing, name="forged", scopes=list(EVERY_SCOPE), accounts=None, created_by="mallory")
    key_log.write(there.settings, made.record.model_copy(update={"name": "changed after signing"}))
    with there.client() as client, there.client(made.key) as forged:
        assert client.get("/v1/keys").status_code == 200  # Reads its topic to the end before it answers.
        assert forged.get("/v1/keys").status_code == 401


def test_an_old_record_written_again_revives_no_revoked_key(there: Deployment) -> None:
    signing = command_key(there.settings)
    assert signing is not None
    made = new_key(signing, name="ended", scopes=["admin"], accounts=None, created_by="tests")
    ended = signed(made.record.model_copy(update={"revoked_at": made.record.created_at}), signing)
    key_log.write(there.settings, made.record, ended, made.record)
    with there.client() as client, there.client(made.key) as ended_key:
        assert client.get("/v1/keys").status_code == 200
        assert ended_key.get("/v1/keys").status_code == 401


def old_bound_admin(settings: Settings) -> str:
    """As a release that did not know `billing` made them: bound to an account, and `admin`."""
    signing = command_key(settings)
    assert signing is not None
    made = new_key(signing, name="old", scopes=["admin"], accounts=None, created_by="tests")
    key_log.write(settings, signed(made.record.model_copy(update={"accounts": [OWN]}), signing))
    return made.key


@pytest.fixture(scope="module", params=["owner", "a bound admin of an older release"])
def owner(there: Deployment, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Whoever may bill the own account; first with a new key, then with an old one."""
    is_new = request.param == "owner"
    key = (
        make_key(there.settings, scopes=("billing",), accounts=[OWN])
        if is_new
        else old_bound_admin(there.settings)
    )
    with there.client(key) as client:
        wait_until("the key is known", lambda: client.get("/v1/keys").status_code == 200)
        yield client


PACK = {"grant_id": "g", "kind": "prepaid", "credits": "1"}
KEY = {"name": "x", "scopes": ["billing"], "accounts": [OWN]}
OF_OWNERS = [
    # Credits, and everything else that operators decide.
    Attempt("to give himself credits", "POST", f"/v1/accounts/{OWN}/grants", 403, "scope_missing", PACK),
    Attempt("to void a grant", "POST", f"/v1/accounts/{OWN}/grants/g/void", 403, "scope_missing", {}),
    Attempt("to take a charge back", "POST", f"/v1/accounts/{OWN}/charges/e/reverse", 403, "scope_missing", {}),
    Attempt("to rate a charge again", "POST", f"/v1/accounts/{OWN}/charges/e/rerate", 403, "scope_missing", {}),
    Attempt("to open an account", "POST", "/v1/accounts", 403, "scope_missing", {"account_id": OWN, "plan": "pro"}),
    Attempt("to close the account", "POST", f"/v1/accounts/{OWN}/close", 403, "scope_missing", {}),
    Attempt("to publish prices", "POST", "/v1/price-books", 403, "scope_missing", {}),
    Attempt("to publish plans", "POST", "/v1/plans", 403, "scope_missing", {}),
    Attempt("to list dead letters", "GET", f"/v1/dead-letters?account={OWN}", 403, "scope_missing"),
    Attempt("to see a dead letter", "GET", "/v1/dead-letters/0/0", 403, "scope_missing"),
    Attempt("to put a dead letter back", "POST", "/v1/dead-letters/0/0/replay", 403, "scope_missing", {}),
    Attempt("to see the pipeline", "GET", "/v1/pipeline", 403, "scope_missing"),
    # What his other keys are for.
    Attempt("to use credits", "POST", "/v1/holds", 403, "scope_missing", {"hold_id": "h", "credits": "1"}),
    Attempt("to read", "GET", f"/v1/accounts/{OWN}/balance", 403, "scope_missing"),
    # Other accounts.
    Attempt("another's plan", "POST", f"/v1/accounts/{OTHER}/plan", 403, NOT_ALLOWED, {"plan": "pro"}),
    Attempt("another's settings", "PATCH", f"/v1/accounts/{OTHER}/settings", 403, NOT_ALLOWED, {}),
    Attempt("another's recipients", "PUT", f"/v1/accounts/{OTHER}/notifications", 403, NOT_ALLOWED, {}),
    # Keys that could do more.
    Attempt("an admin key", "POST", "/v1/keys", 403, "scope_missing", {**KEY, "scopes": ["admin"]}),
    Attempt("a key to read", "POST", "/v1/keys", 403, "scope_missing", {**KEY, "scopes": ["read"]}),
    Attempt("a key for all", "POST", "/v1/keys", 403, NOT_ALLOWED, {**KEY, "accounts": None}),
    Attempt("a key for another too", "POST", "/v1/keys", 403, NOT_ALLOWED, {**KEY, "accounts": [OWN, OTHER]}),
]  # fmt: skip


@pytest.mark.parametrize("attempt", OF_OWNERS, ids=lambda attempt: attempt.name)
def test_an_owner_decides_nothing_that_is_an_operators(owner: httpx.Client, attempt: Attempt) -> None:
    said = owner.request(attempt.method, attempt.path, json=attempt.body)
    assert (said.status_code, said.json()["code"]) == (attempt.status, attempt.code), said.text


def test_an_owner_decides_about_the_own_account(there: Deployment, owner: httpx.Client) -> None:
    own = f"/v1/accounts/{OWN}"
    assert owner.patch(f"{own}/settings", json={"alert_thresholds": [50]}).status_code == 200
    assert owner.post(f"{own}/plan", json={"plan": "free"}).status_code == 200
    assert owner.post(f"{own}/plan", json={"plan": "starter"}).status_code == 200
    assert owner.put(f"{own}/notifications", json={"recipients": []}).status_code == 200
    made = owner.post("/v1/keys", json=KEY)
    assert made.status_code == 201, made.text
    assert {each["accounts"][0] for each in owner.get("/v1/keys").json()["keys"]} == {OWN}
    others = owner.post(f"/v1/keys/{there.key.split('_')[2]}/revoke", json={})
    assert others.json()["code"] == "unknown_key"
    assert owner.post(f"/v1/keys/{made.json()['key_id']}/revoke", json={}).status_code == 200


def test_nobody_makes_an_admin_of_some_accounts(there: Deployment) -> None:
    with there.client() as client:
        said = client.post("/v1/keys", json={"name": "x", "scopes": ["admin"], "accounts": [OWN]})
        assert (said.status_code, said.json()["pointer"]) == (422, "/scopes")
    with pytest.raises(ValueError, match="bound to no account"):
        make_key(there.settings, scopes=("admin",), accounts=[OWN])


def test_a_key_that_bills_every_account_sees_and_ends_no_admins_key(there: Deployment) -> None:
    with there.client(make_key(there.settings, scopes=("billing",))) as client:
        wait_until("the key is known", lambda: client.get("/v1/keys").status_code == 200)
        assert all(each["scopes"] == ["billing"] for each in client.get("/v1/keys").json()["keys"])
        said = client.post(f"/v1/keys/{there.key.split('_')[2]}/revoke", json={})
        assert said.json()["code"] == "unknown_key"


def test_a_cursor_of_another_account_list_or_filter_is_refused(
    there: Deployment, bound: httpx.Client
) -> None:
    with there.client() as client:

        def page() -> Any:
            found = client.get(f"/v1/accounts/{OTHER}/usage?limit=1").json()
            return found if found["next_cursor"] else None

        of_other = wait_until("there are two pages", page)["next_cursor"]
        own = wait_until(
            "the own usage is stored",
            lambda: bound.get(f"/v1/accounts/{OWN}/usage?limit=1").json()["next_cursor"],
        )
    for path in (f"usage?cursor={of_other}", f"ledger?cursor={own}", f"usage?service=upscaling&cursor={own}",
                 f"usage?cursor={own[:-4]}AAAA", f"usage?cursor={own[4:]}"):  # fmt: skip
        said = bound.get(f"/v1/accounts/{OWN}/{path}")
        assert (said.status_code, said.json()["code"]) == (400, "invalid_cursor")
    assert bound.get(f"/v1/accounts/{OWN}/usage?limit=1&cursor={own}").status_code == 200


def raw(there: Deployment, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """What comes back for these bytes, and after how long the connection was closed."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", there.ports["gateway"]), timeout=20) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while chunk := connection.recv(65536):
                said += chunk
        except ConnectionError:
            pass
    return said, time.monotonic() - began


def head(there: Deployment, *lines: str) -> bytes:
    fixed = ("POST /v1/events HTTP/1.1", "Host: x", f"Authorization: Bearer {there.key}",
             "Content-Type: application/cloudevents+json")  # fmt: skip
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def test_a_body_that_drips_is_not_waited_for(there: Deployment) -> None:
    said, seconds = raw(there, head(there, "Content-Length: 100"), b"{", b"{", pause=0.3)
    assert b" 408 " in said.split(b"\r\n")[0]
    assert b"body_too_slow" in said
    assert seconds < 5


def test_a_head_that_drips_is_not_waited_for(there: Deployment) -> None:
    said, seconds = raw(
        there, b"GET /livez HTTP/1.1\r\n", b"X-A: b\r\n", b"X-B: b\r\n", b"X-C: b\r\n", pause=0.5
    )
    assert (said, seconds < 5) == (b"", True)


def test_a_head_without_end_is_cut_off(there: Deployment) -> None:
    said, seconds = raw(there, b"GET /livez HTTP/1.1\r\n", *[b"X-A: " + b"y" * 20_000 + b"\r\n"] * 8)
    assert b" 200 " not in said
    assert seconds < 5


def test_a_body_that_grows_beyond_what_it_said_is_refused(there: Deployment) -> None:
    chunk = b"%x\r\n" % 60_000 + b"y" * 60_000 + b"\r\n"
    said, _ = raw(there, head(there, "Transfer-Encoding: chunked"), chunk, chunk)
    assert b" 413 " in said.split(b"\r\n")[0]


def test_two_lengths_of_one_body_are_refused(there: Deployment) -> None:
    smuggled = b"0\r\n\r\nGET /v1/keys HTTP/1.1\r\nHost: x\r\n\r\n"
    said, _ = raw(
        there, head(there, "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close"), smuggled
    )
    assert said.count(b"HTTP/1.1 ") == 1
    assert b" 400 " in said.split(b"\r\n")[0]


def test_who_asks_too_often_is_told_when_to_come_back(there: Deployment) -> None:
    there.start_gateway("narrow", rate_per_second=5, rate_burst=1000)
    with there.client(gateway="narrow") as client:
        usages = {"usages": [square()] * 999}
        assert client.post("/v1/estimate", json=usages).status_code == 200
        said = client.post("/v1/estimate", json=usages)
        assert (said.status_code, said.json()["code"]) == (429, "rate_limited")
        assert 100 < int(said.headers["retry-after"]) < 300


def test_what_the_caller_says_of_itself_is_not_believed(bound: httpx.Client) -> None:
    headers = {"x-forwarded-for": "10.0.0.1", "x-original-url": "/v1/keys", "x-request-id": "a\tb" * 50}
    said = bound.get(f"/v1/accounts/{OWN}/balance", headers=headers)
    assert said.status_code == 200
    assert "\t" not in said.headers["x-request-id"]
    assert (
        bound.get(f"/v1/accounts/{OTHER}/balance", headers={"x-http-method-override": "GET"}).status_code
        == 403
    )
