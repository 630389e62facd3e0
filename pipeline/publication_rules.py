"""What becomes of a published price book or plan catalogue: identity and window as for commands, then the schedule's
rules. Every partition gets the same command and decides for itself, by the same rules on its own log.
"""

from pipeline import emit
from pipeline.domain.commands import Publication
from pipeline.domain.credits import NO_CREDITS
from pipeline.domain.price_book import PriceBook
from pipeline.domain.reasons import ACCEPTED_CODE, REASON_CODES, REASON_OF_CODE, Reason
from pipeline.domain.schedules import refusal
from pipeline.domain.usage import identity_of
from pipeline.emit import Place
from pipeline.state import FirstAnswer
from pipeline.validate import LogRecord
from pipeline.work import Work
from schemas.publication import SCHEDULE_SUBJECT

_KEY = SCHEDULE_SUBJECT.encode()


def answer_publication(work: Work, record: LogRecord, publication: Publication, place: Place) -> None:
    identity = identity_of(_KEY, publication.source, publication.command_id)
    first = work.first_answer(identity, place)
    if first is not None:
        _answer_again(work, record, publication, first, place)
        return
    late = work.outside_window(publication.occurred_at, place.accepted_at)
    if late is not None:
        work.dead_letter_of(record, publication, *late, "/time", place)
        return
    work.remember(identity, publication.fingerprint, _published(work, publication, place), NO_CREDITS, place)


def _published(work: Work, publication: Publication, place: Place) -> int:
    """The code of the answer, which has been said."""
    version = publication.published
    is_book = isinstance(version, PriceBook)
    for ref in work.cursor.price_books if is_book else work.cursor.plan_catalogs:
        if (ref.version, ref.sha256) == (version.version, version.sha256):
            offset = max(ref.offset, 0)  # What came with a release came before the log.
            work.records.append(emit.publication_repeated(publication, "", offset, place))
            return ACCEPTED_CODE
    schedule, lead_ms = work.books if is_book else work.catalogs, work.core.rules.publish_lead_ms
    refused = refusal(schedule, version, at=place.accepted_at, lead_ms=lead_ms)
    work.records.append(emit.publication_result(publication, refused, place))
    if refused is not None:
        return REASON_CODES[refused.reason]
    work.publish(publication, place)
    return ACCEPTED_CODE


def _answer_again(
    work: Work, record: LogRecord, publication: Publication, first: FirstAnswer, place: Place
) -> None:
    if first.fingerprint != publication.fingerprint:
        detail = (
            f"expected the content of the command at offset {first.offset}, which has the same source and id"
        )
        work.dead_letter_of(record, publication, Reason.CONFLICT, detail, "/id", place)
        return
    reason = REASON_OF_CODE.get(first.code)
    work.records.append(emit.publication_repeated(publication, reason or "", first.offset, place))
