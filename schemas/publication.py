"""Publications: signed CloudEvents `org.apimage.schedule.<kind>.v1` that give a running deployment a new version.

About no account: the subject, and the Kafka key, is `__schedule__`, which no account id can be. Written to *every*
partition by number, in one transaction, so that all of them price by the same book from the same instant on.
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from schemas.account_command import SignedEnvelope
from schemas.base import WireModel
from schemas.plan import PlanCatalog
from schemas.price_book import PriceBook

SCHEDULE_SUBJECT: Final = "__schedule__"
PRICE_BOOK_TYPE: Final = "org.apimage.schedule.price_book.v1"
PLAN_CATALOG_TYPE: Final = "org.apimage.schedule.plan_catalog.v1"
CONTENT_BYTES_MAX: Final = 65_536
"""Of the content's canonical form. The first price book has a fiftieth of it."""

Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Hexadecimal, of the content's canonical form: JSON with sorted keys and without white space."""


class PublishedPriceBook(WireModel):
    """A whole price book. It takes force at its `effective_from`, at least 60 s after this was accepted."""

    content: PriceBook
    sha256: Sha256


class PublishedPlanCatalog(WireModel):
    """A whole plan catalogue. It takes force at its `effective_from`, at least 60 s after this was accepted."""

    content: PlanCatalog
    sha256: Sha256


class ScheduleEnvelope(SignedEnvelope):
    """A signed CloudEvent about the schedule of the whole deployment."""

    subject: Literal["__schedule__"]  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen)
    """No account, and the record's Kafka key."""


class PublishPriceBook(ScheduleEnvelope):
    """Publish a price book."""

    type: Literal["org.apimage.schedule.price_book.v1"]
    data: PublishedPriceBook


class PublishPlanCatalog(ScheduleEnvelope):
    """Publish a plan catalogue: every plan that there was is still in it."""

    type: Literal["org.apimage.schedule.plan_catalog.v1"]
    data: PublishedPlanCatalog


Publication: TypeAlias = Annotated[PublishPriceBook | PublishPlanCatalog, Field(discriminator="type")]
PUBLICATION: TypeAdapter[Publication] = TypeAdapter(Publication)
"""Reads either, by its type."""
