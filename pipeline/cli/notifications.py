"""`creditstream notifications …`: whom an account's alerts are sent to, and what became of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pipeline.cli.commanding import Account, Json
from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded

if TYPE_CHECKING:
    from pipeline.notifications.book import NotificationBook
    from pipeline.notifications.changes import Change
    from pipeline.settings import Settings
    from schemas.notification_settings import WebhookEndpoint

app = typer.Typer(no_args_is_help=True, help="Say whom alerts are sent to, and see what became of them.")
BY: Final = "creditstream-cli"
SHOWN_MAX: Final = 1000
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="whk_…, as `show` has it")]


def show(account: Account, *, as_json: Json = False) -> None:
    """Show recipients, language, time zone and webhooks of an account."""
    from pipeline.cli.output import write_json, write_table

    _, book = _book()
    known = book.account(account)
    targets = [(each.recipient_id, "email", each.address) for each in (known.recipients if known else ())]
    targets += [(each.endpoint_id, "webhook", each.url) for each in book.webhooks(account)]
    if as_json:
        names = ("target_id", "channel", "target")
        write_json(
            {
                "account_id": account,
                "language": known.language if known else "en",
                "time_zone": known.time_zone if known else "UTC",
                "targets": [dict(zip(names, each, strict=True)) for each in targets],
            }
        )
    else:
        write_table(("target_id", "channel", "target"), [list(each) for each in targets])


def set_recipients(
    account: Account,
    *,
    to: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Again for more; none: no mails")
    ] = None,
    language: Annotated[str, typer.Option(metavar="en|de")] = "en",
    time_zone: Annotated[str, typer.Option(help="IANA name, for the dates in mails")] = "UTC",
    as_json: Json = False,
) -> None:
    """Say whom mails are sent to, in which language and hours. It replaces what was.

    Example: creditstream notifications set acme --to owner@example.com --time-zone Europe/Berlin
    """
    from pipeline.cli.commanding import checked
    from pipeline.cli.output import say, write_json
    from pipeline.gateway import notification_log
    from pipeline.notifications.changes import with_recipients
    from schemas.http_api import NotificationsRequest

    wanted = checked(NotificationsRequest, recipients=to or [], language=language, time_zone=time_zone)
    _require_zone(time_zone)
    settings, book = _book()
    record = with_recipients(
        book,
        account,
        addresses=wanted["recipients"],
        language=_language(language),
        time_zone=time_zone,
        change=_change(),
    )
    notification_log.write(settings, record)
    if as_json:
        write_json({"recipients": [each.model_dump() for each in record.recipients]})
    else:
        say(f"Alerts of {account} go to {len(record.recipients)} recipients.")


def _require_zone(name: str) -> None:
    from pipeline.gateway.problems import ProblemError
    from pipeline.gateway.times import zone_of

    try:
        zone_of(name)
    except ProblemError as error:
        raise CliError(Exit.USAGE, f"expected an IANA time zone, got {name!r}") from error


def add_webhook(
    account: Account,
    url: Annotated[str, typer.Argument(metavar="URL")],
    *,
    description: Annotated[str, typer.Option()] = "",
    as_json: Json = False,
) -> None:
    """Add a webhook. Its secret is shown this once: it is kept nowhere.

    Example: creditstream notifications add-webhook acme https://hooks.example.com/credits
    """
    from pipeline.cli.commanding import checked
    from pipeline.notifications.changes import NotificationError, new_webhook
    from schemas.http_api import NewWebhookRequest

    checked(NewWebhookRequest, url=url, description=description)
    settings, book = _book()
    try:
        made = new_webhook(
            book, account, settings.notifier, url=url, description=description, change=_change()
        )
    except NotificationError as error:
        raise CliError(Exit.USAGE, "the webhook was not added", why=str(error)) from error
    _write_with_secret(settings, book, made, as_json=as_json)


def rotate_webhook(account: Account, endpoint: Endpoint, *, as_json: Json = False) -> None:
    """Give a webhook a new secret, shown this once. The old one signs beside it for a while."""
    from datetime import timedelta

    from pipeline.notifications.changes import rotated

    settings, book = _book()
    overlap = timedelta(hours=settings.notifier.secret_overlap_hours)
    made = rotated(book.keys, _webhook(book, account, endpoint), overlap=overlap, change=_change())
    _write_with_secret(settings, book, made, as_json=as_json)


def delete_webhook(account: Account, endpoint: Endpoint) -> None:
    """Delete a webhook: nothing is sent there any more."""
    from pipeline.cli.output import say
    from pipeline.gateway import notification_log
    from pipeline.notifications.changes import deleted

    settings, book = _book()
    notification_log.write(settings, deleted(book.keys, _webhook(book, account, endpoint), _change()))
    say(f"Deleted {endpoint}.")


def send_test(account: Account) -> None:
    """Send a test to all recipients and webhooks of an account. Exit code 3 when it has none."""
    from pipeline.cli.output import say
    from pipeline.client.origin import new_id
    from pipeline.gateway import notification_log
    from pipeline.notifications.deliveries import requested_tests, targets

    settings, book = _book()
    found = targets(book, account)
    if not found:
        raise CliError(Exit.NOT_FOUND, f"{account} has neither recipients nor webhooks")
    notification_log.ask(
        settings, *requested_tests(book.keys, account, found, test_id=new_id(), change=_change())
    )
    say(f"Asked for {len(found)} tests. See: creditstream notifications deliveries {account}")


def deliveries(
    account: Account,
    *,
    last: Annotated[int, typer.Option(min=1, max=SHOWN_MAX, help="How many, the newest first")] = 20,
    as_json: Json = False,
) -> None:
    """Show each alert to each recipient and webhook, and how far it came."""
    from pipeline.cli.look import analyst
    from pipeline.cli.output import write_json, write_table
    from pipeline.query.pages import DELIVERIES, Filters, page

    found = page(analyst(), DELIVERIES, account, Filters(), after=None, limit=last)
    if as_json:
        write_json({"account_id": account, "deliveries": found})
        return
    names = ("delivery_id", "kind", "threshold", "channel", "target", "status", "attempts", "last_error")
    write_table(names, [[each[name] for name in names] for each in found])


def redeliver(
    account: Account, delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="dlv_…")]
) -> None:
    """Deliver once more, under the same id, what was delivered or is dead."""
    import orjson

    from pipeline.cli.look import analyst
    from pipeline.cli.output import say
    from pipeline.gateway import notification_log
    from pipeline.notifications.deliveries import OPEN, again
    from pipeline.query.deliveries import delivery
    from schemas.alert_delivery import AlertDelivery

    row = delivery(analyst(), account, delivery_id)
    if row is None:
        raise CliError(Exit.NOT_FOUND, f"{account} has no delivery {delivery_id!r}")
    known = AlertDelivery.model_validate_json(orjson.dumps(row))
    if known.status in OPEN:
        raise CliError(Exit.REFUSED, f"{delivery_id} is {known.status}: it is delivered anyway")
    settings, book = _book()
    notification_log.ask(settings, again(book.keys, known, _change()))
    say(f"Asked for {delivery_id} once more.")


def _book() -> "tuple[Settings, NotificationBook]":
    from pipeline.gateway import notification_log
    from pipeline.notifications.keys import NoNotificationKeyError
    from pipeline.settings import Settings

    settings = Settings()
    try:
        return settings, notification_log.read(settings)
    except NoNotificationKeyError as error:
        raise CliError(Exit.REFUSED, "there is no notification key", why=str(error)) from error


def _change() -> "Change":
    from pipeline.client.origin import now
    from pipeline.domain.instants import as_datetime
    from pipeline.notifications.changes import Change

    return Change(as_datetime(now()), BY)


def _language(name: str) -> Literal["en", "de"]:
    return "de" if name == "de" else "en"


def _webhook(book: "NotificationBook", account: str, endpoint: str) -> "WebhookEndpoint":
    found = book.webhook(account, endpoint)
    if found is None:
        raise CliError(Exit.NOT_FOUND, f"{account} has no webhook {endpoint!r}")
    return found


def _write_with_secret(
    settings: "Settings", book: "NotificationBook", webhook: "WebhookEndpoint", *, as_json: bool
) -> None:
    from pipeline.cli.output import say, write, write_json
    from pipeline.gateway import notification_log
    from pipeline.notifications.changes import shown_secret

    notification_log.write(settings, webhook)
    secret = shown_secret(book.keys, webhook, webhook.secrets[0]) or ""
    if as_json:
        write_json({"endpoint_id": webhook.endpoint_id, "url": webhook.url, "secret": secret})
        return
    write(secret)
    say(f"The secret of {webhook.endpoint_id}. Keep it now: it is not shown again.")


def register() -> None:
    """Put the commands under `notifications`."""
    commands: dict[str, Callable[..., Any]] = {
        "show": show,
        "set": set_recipients,
        "add-webhook": add_webhook,
        "rotate-webhook": rotate_webhook,
        "delete-webhook": delete_webhook,
        "test": send_test,
        "deliveries": deliveries,
        "redeliver": redeliver,
    }
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
