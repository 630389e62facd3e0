"""`/notifications/unsubscribe`: ends mails to one recipient, with the token of a mail and without any key.

A GET changes nothing, because mail scanners follow links: it shows a button. A POST ends the mails; mail programs send
it themselves (RFC 8058, one click).
"""

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from pipeline.gateway.notification_book import book_of, clock, write_setting
from pipeline.gateway.parts import parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.notifications.changes import without_recipient
from schemas.base import ACCOUNT_ID_PATTERN
from schemas.notification_settings import RECIPIENT_ID_PATTERN

router: Final = APIRouter(prefix="/notifications/unsubscribe", tags=["Notifications"])
AccountAsked = Annotated[str, Query(pattern=ACCOUNT_ID_PATTERN, max_length=128)]
RecipientAsked = Annotated[str, Query(pattern=RECIPIENT_ID_PATTERN)]
Token = Annotated[str, Query(max_length=200)]
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>Credit alerts</title>
<body style="font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 4rem auto; padding: 0 1rem">
<h1>Credit alerts</h1>{}</body></html>"""
_ASK: Final = """<p>Send no more alerts about the credits of <strong>{}</strong> to this address?</p>
<form method="post"><button style="font: inherit; padding: .5rem 1rem">Send no more</button></form>"""
_DONE: Final = "<p>Done: this address gets no more alerts about the credits of <strong>{}</strong>.</p>"


@router.get("", response_class=HTMLResponse)
async def ask_unsubscribe(
    request: Request, account: AccountAsked, recipient: RecipientAsked, token: Token
) -> HTMLResponse:
    """A page with a button that ends the mails."""
    await _require_token(request, account, recipient, token)
    return HTMLResponse(_PAGE.format(_ASK.format(escape(account))))


@router.post("", response_class=HTMLResponse)
async def unsubscribe(
    request: Request, account: AccountAsked, recipient: RecipientAsked, token: Token
) -> HTMLResponse:
    """End the mails to this recipient. Once more changes nothing."""
    await _require_token(request, account, recipient, token)
    parts = parts_of(request)
    book = await book_of(parts)
    known = book.account(account)
    if known is not None and any(each.recipient_id == recipient for each in known.recipients):
        await write_setting(parts, book, without_recipient(book.keys, known, recipient, clock()))
    return HTMLResponse(_PAGE.format(_DONE.format(escape(account))))


async def _require_token(request: Request, account: str, recipient: str, token: str) -> None:
    book = parts_of(request).views.notifications
    if book is None or not book.keys.may_unsubscribe(token, account, recipient):
        raise ProblemError("unauthenticated", "expected the link of a mail, whole")
