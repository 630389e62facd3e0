"""Mails: what they look like, and how they leave: by SMTP, or as files where no mail server is configured."""

import ssl
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiosmtplib
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline.notifications.keys import NotificationKeys
from pipeline.notifier.attempts import Said
from pipeline.notifier.words import wording
from pipeline.settings import NotifierSettings
from schemas.alert_delivery import AlertDelivery
from schemas.notification_settings import AccountNotifications, Recipient

OUTBOX: Final = "outbox"
OUTBOX_MAILS_MAX: Final = 1000
"""Then the oldest file goes for each new one."""
SMTP_TAKEN: Final = 250
SMTP_FINAL_MIN: Final = 500
_TEMPLATES: Final = Environment(
    loader=PackageLoader("pipeline.notifier"),
    autoescape=select_autoescape(("html",), default=False),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
)


def compose(
    delivery: AlertDelivery,
    recipient: Recipient,
    of: AccountNotifications,
    settings: NotifierSettings,
    keys: NotificationKeys,
    at: datetime,
) -> EmailMessage:
    """The mail. Its `Message-ID` is the same in every try, so that mail programs show it once."""
    asked = {"account": of.account_id, "recipient": recipient.recipient_id}
    token = keys.unsubscribe_token(of.account_id, recipient.recipient_id)
    unsubscribe = f"{settings.public_url}/notifications/unsubscribe?{urlencode({**asked, 'token': token})}"
    shown = wording(delivery, of.language, of.time_zone)
    filled = {**shown, "link": f"{settings.public_url}/", "unsubscribe": unsubscribe}
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("creditstream", addr_spec=settings.mail_from)
    message["To"] = Address(addr_spec=recipient.address)
    message["Subject"] = str(shown["subject"])
    message["Date"] = format_datetime(at)
    message["Message-ID"] = message_id(delivery, settings)
    message["List-Unsubscribe"] = f"<{unsubscribe}>"
    if settings.public_url.startswith("https:"):  # RFC 8058 knows no other.
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_TEMPLATES.get_template("alert.txt").render(filled), cte="quoted-printable")
    html = _TEMPLATES.get_template("alert.html").render(filled)
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message


def message_id(delivery: AlertDelivery, settings: NotifierSettings) -> str:
    return f"<{delivery.delivery_id}@{settings.mail_from.rpartition('@')[2]}>"


class SmtpServer:
    """A connection for each mail: mails are few, and an idle connection is one more thing that ends unseen."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings
        cafile = settings.smtp_ca_file
        self._tls = ssl.create_default_context(cafile=None if cafile is None else str(cafile))

    async def send(self, message: EmailMessage, delivery: AlertDelivery) -> Said:
        """What the server said to it. Its words are not kept: they repeat the address."""
        del delivery
        settings = self._settings
        secured = settings.smtp_tls != "none"
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_user or None,
                password=settings.smtp_password.get_secret_value() or None,
                use_tls=settings.smtp_tls == "tls",
                start_tls=settings.smtp_tls == "starttls",
                tls_context=self._tls if secured else None,
                timeout=settings.smtp_timeout_seconds,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(error.recipients[0].code)
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error.code)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Said(None, f"the mail server did not take it: {type(error).__name__}")
        return Said(SMTP_TAKEN)


def _refused(code: int) -> Said:
    return Said(code, f"the mail server refused with code {code}", is_final=code >= SMTP_FINAL_MIN)


class Outbox:
    """Mails as files, one for each delivery however often it is tried: for a deployment without a mail server."""

    def __init__(self, home: Path) -> None:
        self._directory = home / OUTBOX
        self._directory.mkdir(parents=True, exist_ok=True)

    async def send(self, message: EmailMessage, delivery: AlertDelivery) -> Said:
        """Written, then renamed: whoever looks sees whole mails."""
        draft = self._directory / f".{delivery.delivery_id}.draft"
        draft.write_bytes(bytes(message))
        draft.rename(self._directory / f"{delivery.delivery_id}.eml")
        mails = sorted(self._directory.glob("*.eml"), key=lambda path: path.stat().st_mtime)
        for old in mails[:-OUTBOX_MAILS_MAX]:
            old.unlink(missing_ok=True)
        return Said(SMTP_TAKEN)
