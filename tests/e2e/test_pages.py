"""The account pages before a real pipeline, in a real browser: seen in every look, used with and without JavaScript."""

import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Page

from pipeline.gateway.keys import key_id_of
from pipeline.pages.sessions import COOKIE, sign_in_link
from pipeline.settings import ClickHouseSettings, KafkaSettings
from tests.browser import browser as opened_browser
from tests.browser import violations
from tests.conftest import own_settings
from tests.gateways import BATCH, CLOUD_EVENT, Deployment, deployed, event
from tests.stack import execute, wait_until

pytestmark = pytest.mark.e2e
SHOWS: Final = """
([available, rows]) => document.querySelector("#available").dataset.value === available
    && document.querySelectorAll("#live table.cards tbody tr").length >= rows
"""
CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')
SCREENS: Final = (
    "/accounts",
    "/accounts/monthly",
    "/accounts/paused",
    "/accounts/overage",
    "/accounts/monthly/usage",
    "/accounts/monthly/usage?range=7d&unit=hour&outcome=metered&tz=Europe/Berlin",
    "/accounts/monthly/credits?service=upscaling&images=2&input_width=512&input_height=512&scale=4",
    "/accounts/monthly/alerts",
    "/accounts/monthly/billing",
    "/accounts/monthly/billing/plan/pro",
    "/accounts/monthly/billing/overage?ceiling=200",
    "/keys",
    "/prices",
    "/pipeline",
    "/dead-letters",
    "/accounts/nobody",
)
"""Beside a receipt and a dead letter, whose addresses only the run knows, and the sign-in."""
PROBLEMS: Final = {"/accounts/nobody"}


def seed(there: Deployment) -> None:
    """Accounts in every state that a screen shows."""
    there.open("monthly", "starter", credits="100")
    there.open("paused", "free")
    there.open("overage", "starter")
    there.open("prepaid", "prepaid", credits="40")
    with there.client() as client:
        settings = {"overage_ceiling": "200", "auto_topup": None}
        assert client.patch("/v1/accounts/overage/settings", json=settings).status_code == 200
        usages = [
            *(event("monthly", images=count) for count in (4, 3, 1)),
            {**event("monthly"), "type": "org.apimage.usage.background_removal.v1", "data": {"images": 10}},
            {**event("monthly"), "type": "org.apimage.usage.image_analysis.v1", "data": {}},
            event("monthly", images=9000),
            event("paused", images=50),
            event("paused"),
            event("overage", images=537),
        ]
        said = client.post("/v1/events?wait=outcome", json=usages, headers=BATCH)
        assert said.status_code == 200, said.text
        lost = client.post("/v1/events", json=[event("nobody-yet", "lost-1", images=2)], headers=BATCH)
        assert lost.status_code == 202, lost.text


@pytest.fixture(scope="module")
def there(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with (
        own_settings(kafka, clickhouse, tmp_path_factory.mktemp("pages")) as settings,
        deployed(settings) as made,
    ):
        seed(made)
        with made.client() as client:
            wait_until("the usage is stored", lambda: len(stored(client, "overage")) == 1)
            wait_until(
                "the dead letter is stored", lambda: client.get("/v1/dead-letters").json()["dead_letters"]
            )
        yield made


def stored(client: httpx.Client, account: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/v1/accounts/{account}/usage").json()["items"]
    return items


class Visitor(httpx.Client):
    """A browser without JavaScript: cookies, forms, redirects. Signs in when it is entered with a key."""

    def __init__(self, there: Deployment, key: str | None = None) -> None:
        super().__init__(base_url=there.url("gateway"), follow_redirects=True, timeout=30)
        self._key = key

    def __enter__(self) -> Self:
        super().__enter__()
        if self._key is not None:
            self.send_form("/sign-in", key=self._key, at="/sign-in")
        return self

    def send_form(self, path: str, *, at: str, **fields: str) -> httpx.Response:
        """Fill in and send the form that is seen `at` an address."""
        found = CSRF.search(self.get(at).text)
        assert found is not None, f"a form at {at} has a token"
        return self.post(path, data={"csrf": found[1], **fields})


@pytest.fixture
def visitor(there: Deployment) -> Iterator[Visitor]:
    with Visitor(there, there.key) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as made:
        yield made


@pytest.fixture
def page(there: Deployment, browser: Browser) -> Iterator[Page]:
    """A signed-in browser page whose console must stay empty."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, base_url=there.url("gateway"), reduced_motion="reduce"
    )
    made = context.new_page()
    made.goto("/sign-in")
    made.fill("input[name=key]", there.key)
    made.click("main button")
    said: list[str] = []
    made.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    context.close()
    assert [each for each in said if "status of 404" not in each] == []  # Of the page that is a problem.


def test_every_screen_is_accessible_in_every_look_and_fits_320_pixels(there: Deployment, page: Page) -> None:
    with there.client() as client:
        charged = stored(client, "monthly")[-1]["event_id"]
        letter = client.get("/v1/dead-letters").json()["dead_letters"][0]
    own = (f"/accounts/monthly/charges/{charged}", f"/dead-letters/{letter['partition']}/{letter['offset']}")
    found: list[str] = []
    for address in (*SCREENS, *own):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == (404 if address in PROBLEMS else 200), address
        for width, scheme in ((1280, "light"), (1280, "dark"), (320, "light"), (320, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two, as it declares
            found += [f"{address} {width} {scheme}: {each}" for each in violations(page)]
        overflow = page.evaluate("document.documentElement.scrollWidth")
        assert overflow <= 320, f"{address} is {overflow} pixels wide"
        page.set_viewport_size({"width": 1280, "height": 900})
    assert found == []


def test_the_sign_in_is_accessible_and_a_link_signs_in_once(there: Deployment, browser: Browser) -> None:
    link = sign_in_link(there.settings, key_id_of(there.key))
    parts = urlsplit(link)
    context = browser.new_context(base_url=there.url("gateway"))
    page = context.new_page()
    page.goto(f"{parts.path}?{parts.query}")
    assert violations(page) == []
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("heading", name="Accounts").is_visible()
    page.goto(f"{parts.path}?{parts.query}")
    assert "was used before" in page.inner_text("main")
    context.close()


def test_the_open_dashboard_shows_an_event_with_its_next_look_without_reload(
    there: Deployment, page: Page
) -> None:
    """Balance and activity both, as soon as the API has them."""
    account = there.open("watched")
    page.goto(f"/accounts/{account}")
    page.evaluate("window.notReloaded = true")
    with there.client() as client:
        for number in range(1, 4):
            client.post("/v1/events", json=[event(account, images=2)], headers=BATCH)
            wait_until("the API has it", lambda number=number: len(stored(client, account)) == number)  # type: ignore[misc]
            # The first may have asked before, the third says that what the second brought is on the page.
            for _ in range(3):
                with page.expect_response(f"**/accounts/{account}/live?*"):
                    pass
            assert page.evaluate(SHOWS, [str(500 - 2 * number), number]), page.inner_text("#live")
    assert page.evaluate("window.notReloaded") is True


def test_the_keyboard_reaches_the_content_first_and_the_focus_is_seen(page: Page) -> None:
    page.goto("/accounts/monthly")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_charts_show_what_the_tables_say(page: Page) -> None:
    page.goto("/accounts/monthly/usage")
    charted = page.evaluate(
        "echarts.getInstanceByDom(document.querySelector('.chart-canvas')).getOption().series"
        ".reduce((sum, each) => sum + each.data.reduce((a, b) => a + b, 0), 0)"
    )
    assert Decimal(str(charted)) == Decimal(str(page.get_attribute("#total-credits", "data-value")))


def test_screen_downloads_clickhouse_and_ledger_have_the_same_total(
    there: Deployment, visitor: Visitor
) -> None:
    screen = visitor.get("/accounts/monthly/usage").text
    shown = re.search(r'id="total-credits" data-value="([^"]+)"', screen)
    links = dict(re.findall(r'id="download-(json|csv)" href="([^"]+)"', screen))
    assert shown is not None
    exported = visitor.get(links["json"].replace("&amp;", "&"))
    assert exported.headers["content-disposition"] == 'attachment; filename="usage.json"'
    rows = list(csv.DictReader(io.StringIO(visitor.get(links["csv"].replace("&amp;", "&")).text)))
    database = there.settings.clickhouse.database
    told = {
        "screen": Decimal(shown[1]),
        "json": sum(Decimal(each["credits"]) for each in exported.json()["totals"].values()),
        "csv": sum(Decimal(each["credits"]) for each in rows),
        "clickhouse": Decimal(
            execute(
                there.settings.clickhouse,
                f"SELECT sum(credits) FROM {database}.metered_records_v1 WHERE account_id = 'monthly'",
            )
        ),
        "ledger": -Decimal(
            execute(
                there.settings.clickhouse,
                f"SELECT sum(credits) FROM {database}.ledger_entries_v1"
                " WHERE account_id = 'monthly' AND kind = 'usage'",
            )
        ),
    }
    assert set(told.values()) == {Decimal(29)}, told
    assert [each["event_id"] for each in exported.json()["records"]] == [each["event_id"] for each in rows]


def test_a_download_has_the_filters_of_the_screen(visitor: Visitor) -> None:
    chosen = "range=period&outcome=denied&tz=Asia%2FTokyo"
    screen = visitor.get(f"/accounts/monthly/usage?{chosen}").text
    link = re.search(r'id="download-json" href="([^"]+)"', screen)
    assert link is not None
    exported = visitor.get(link[1].replace("&amp;", "&")).json()
    assert {each["outcome"] for each in exported["records"]} == {"denied"}
    assert (exported["time_zone"], exported["filters"]["outcome"]) == ("Asia/Tokyo", "denied")


@pytest.mark.parametrize(
    ("account", "code"),
    [("paused", "plan_paused"), ("overage", "overage"), ("monthly", "insufficient_credits")],
)
def test_each_state_of_running_out_is_told_on_its_dashboard(
    visitor: Visitor, account: str, code: str
) -> None:
    assert f'data-code="{code}"' in visitor.get(f"/accounts/{account}").text


def test_settings_are_changed_by_plain_forms(there: Deployment, visitor: Visitor) -> None:
    account = there.open("owner")
    own, billing = f"/accounts/{account}", f"/accounts/{account}/billing"
    visitor.send_form(f"{own}/alerts", at=f"{own}/alerts", thresholds="50, 90 %")
    refused = visitor.send_form(f"{billing}/overage", at=billing, ceiling="200")
    assert refused.status_code == 422
    assert "overage costs money" in refused.text
    asked = f"{billing}/overage?ceiling=200"
    assert "6 EUR" in visitor.get(asked).text
    visitor.send_form(f"{billing}/overage", at=asked, ceiling="200", understood="on")
    visitor.send_form(
        f"{billing}/top-up", at=billing, turn="on", threshold="50", pack="credits-100",
        credits_max_per_period="300",
    )  # fmt: skip
    visitor.send_form(f"{billing}/plan/pro", at=f"{billing}/plan/pro")
    with there.client() as client:
        said = client.get(f"/v1/accounts/{account}/balance").json()
    assert (said["plan"], said["overage_ceiling"], said["alert_thresholds"]) == ("pro", "200", [50, 90])
    assert said["auto_topup"]["pack"] == "credits-100"


def test_a_form_that_is_sent_twice_is_obeyed_once(there: Deployment, visitor: Visitor) -> None:
    account = there.open("twice")
    path = f"/accounts/{account}/billing/plan/business"
    text = visitor.get(path).text
    fields = dict(re.findall(r'name="(csrf|command_id)" value="([^"]+)"', text.partition("<main")[2]))
    assert [visitor.post(path, data=fields).status_code for _ in "ab"] == [200, 200]


def test_a_key_is_shown_once_and_its_revocation_ends_its_sessions(
    there: Deployment, visitor: Visitor
) -> None:
    made = visitor.send_form("/keys", at="/keys", name="a reader", scopes="read", accounts="monthly").text
    key = re.search(r"cs_live_[0-9a-f]{16}_[0-9a-f]{64}", made)
    assert key is not None
    assert key[0] not in visitor.get("/keys").text
    with Visitor(there, key[0]) as reader:
        assert reader.get("/").url.path == "/accounts/monthly"
        assert reader.get("/accounts/prepaid").status_code == 403
        assert reader.get("/keys").status_code == 403
        assert reader.get("/pipeline").status_code == 403
        visitor.send_form(f"/keys/{key_id_of(key[0])}/revoke", at="/keys")
        wait_until(
            "the session has ended", lambda: reader.get("/accounts/monthly").url.path == "/sign-in", 10
        )


def test_a_dead_letter_is_mended_tried_and_put_back(there: Deployment, visitor: Visitor) -> None:
    with there.client() as client:
        letter = client.get("/v1/dead-letters").json()["dead_letters"][0]
    path = f"/dead-letters/{letter['partition']}/{letter['offset']}"
    there.open("nobody-yet")
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", visitor.get(path).text, re.DOTALL)
    assert text is not None
    mended = text[1].replace("&#34;", '"').replace('"images": 2', '"images": 3')
    assert "cannot be put back" in visitor.send_form(path, at=path, event="{}", do="try").text
    assert "could be put back" in visitor.send_form(path, at=path, event=mended, do="try").text
    assert "Put back" in visitor.send_form(path, at=path, event=mended, do="replay").text
    with there.client() as client:
        said = client.get("/v1/accounts/nobody-yet/balance").json()
    assert said["available"] == "497"


def test_a_charge_is_taken_back_as_soon_as_somebody_was_told_of_it(there: Deployment) -> None:
    account = there.open("corrected")
    sent = event(account, images=4)
    with there.client() as client:
        told = client.post("/v1/events?wait=outcome", json=sent, headers=CLOUD_EVENT).json()
        assert told["outcome"]["credits"] == "4"
        path = f"/v1/accounts/{account}/charges/{sent['id']}/reverse"
        said = client.post(path, json={"credits": "1", "reason": "one was black"})
        assert said.status_code == 200, said.text
        assert client.get(f"/v1/accounts/{account}/balance").json()["available"] == "497"
        unknown = client.post(path.replace(sent["id"], "unknown"), json={})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_charge")


def test_pipeline_shows_that_balances_and_ledger_agree(visitor: Visitor) -> None:
    wait_until("they agree", lambda: 'data-equal="yes"' in visitor.get("/pipeline").text, 10)


def test_nothing_is_changed_without_the_forms_token(visitor: Visitor) -> None:
    said = visitor.post("/accounts/monthly/billing/plan/free", data={"command_id": "x"})
    assert (said.status_code, "not of this session" in said.text) == (403, True)


def test_the_cookie_names_the_key_and_is_of_no_use_when_changed(there: Deployment, visitor: Visitor) -> None:
    cookie = str(visitor.cookies[COOKIE])
    assert there.key not in cookie
    assert there.key.rpartition("_")[2] not in cookie
    set_by = visitor.get("/sign-in").headers["set-cookie"].lower()
    assert "httponly" in set_by
    assert "samesite=lax" in set_by
    with Visitor(there) as stranger:
        stranger.cookies.set(COOKIE, ("A" if cookie[0] != "A" else "B") + cookie[1:])
        assert stranger.get("/accounts/monthly").url.path == "/sign-in"


@pytest.mark.parametrize(
    "goal", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_signing_in_leads_nowhere_else(there: Deployment, goal: str) -> None:
    with Visitor(there) as stranger:
        said = stranger.send_form("/sign-in", at="/sign-in", key=there.key, next=goal)
    assert said.url.host == "127.0.0.1"
    assert said.url.path == "/"


def test_no_page_runs_inline_script_or_reaches_elsewhere(visitor: Visitor) -> None:
    said = visitor.get("/accounts/monthly")
    policy = said.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert set(re.findall(r'(?:src|href)="(https?:)?//', said.text)) == set()
    assert re.findall(r"<script(?![^>]* src=)|\son[a-z]+=|\sstyle=", said.text) == []
