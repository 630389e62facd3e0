"""What the HTTP gateway takes and answers, beside the CloudEvents themselves: see `/docs` of a running gateway.

Amounts are decimal strings, instants RFC 3339 in UTC, as everywhere on the wire. Errors are RFC 9457 problems.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field

from schemas.account_balance import AutoTopup, GrantBalance, OpenHold
from schemas.account_command import (
    ChangePlan,
    CloseAccount,
    Configure,
    GrantCredits,
    IssueGrant,
    Note,
    OpenAccount,
    PlaceHold,
)
from schemas.account_statement import OverageReturn
from schemas.alert_delivery import AlertKind, DeliveryStatus
from schemas.base import (
    AccountId,
    Count,
    CreditAmount,
    GrantShare,
    NotNegative,
    OpenModel,
    Service,
    UtcInstant,
    WireModel,
)
from schemas.command_result import HoldAnswer, PlanChangeAnswer
from schemas.held_usage import CapturedUsage
from schemas.ledger_entry import EntryKind
from schemas.metered_record import UsageOutcome
from schemas.notification_settings import (
    RECIPIENTS_MAX,
    TARGET_ID_PATTERN,
    Address,
    Description,
    Language,
    Recipient,
    TimeZone,
    WebhookUrl,
)
from schemas.plan import PlanCatalog
from schemas.price_book import PriceBook

Scope: TypeAlias = Literal["ingest", "hold", "read", "billing", "admin"]
"""`ingest`: publish usage. `hold`: place, capture, release. `read`: balances, usage, statements. `billing`: what the
owner of an account decides: plan, overage, top-up, thresholds, who is told, keys. `admin`: operators' commands, only of
keys that are bound to no account; it includes `billing`. No other includes another."""

BoundAccount: TypeAlias = AccountId | None
"""May be left out by a key that is bound to one account."""


class PlaceHoldRequest(PlaceHold):
    """`POST /v1/holds`: set credits aside before the work."""

    account_id: BoundAccount = None


class CaptureHoldRequest(WireModel):
    """`POST /v1/holds/{hold_id}/capture`: charge what was done, at most what is held; the rest goes back."""

    account_id: BoundAccount = None
    usage: CapturedUsage


class ReleaseHoldRequest(WireModel):
    """`POST /v1/holds/{hold_id}/release`: give everything back."""

    account_id: BoundAccount = None
    reason: Note = ""


class OpenAccountRequest(OpenAccount):
    """`POST /v1/accounts`."""

    account_id: AccountId


class GrantRequest(IssueGrant):
    """`POST /v1/accounts/{account_id}/grants`."""


class VoidGrantRequest(WireModel):
    """`POST /v1/accounts/{account_id}/grants/{grant_id}/void`."""

    reason: Note = ""


class ChangePlanRequest(ChangePlan):
    """`POST /v1/accounts/{account_id}/plan`."""


class ConfigureRequest(Configure):
    """`PATCH /v1/accounts/{account_id}/settings`."""


class CloseAccountRequest(CloseAccount):
    """`POST /v1/accounts/{account_id}/close`."""


class CommandAnswer(WireModel):
    """A command was obeyed, now or, of a `duplicate`, before. A refusal is a `Problem`."""

    account_id: AccountId
    command_id: str
    """The `Idempotency-Key`, or one that was made up."""
    outcome: Literal["accepted", "duplicate"]
    hold: HoldAnswer | None
    """Of hold, capture and release. `credits`: what is set aside; of a capture what was charged."""
    plan_change: PlanChangeAnswer | None
    balance_after: CreditAmount
    """What is posted."""
    available_after: CreditAmount
    """What can be used: posted less held, and what room there is for overage."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    """Where the command stands in the input log."""


class EventOutcome(WireModel):
    """What became of one event; with `?wait=outcome`."""

    outcome: Literal["metered", "denied", "duplicate", "dead_letter"]
    reason: str
    """Empty when metered. Of a duplicate of a denied event: why that was denied."""
    credits: NotNegative
    """What was charged for this copy: 0 unless metered."""
    rated_credits: NotNegative
    """What it costs by the price book; of a duplicate, what the first copy cost."""
    balance_after: CreditAmount | None


class EventResult(WireModel):
    """The verdict on one event."""

    index: Count
    """Which of the batch, from 0."""
    id: str | None
    source: str | None
    status: Literal["accepted", "duplicate", "rejected", "not_acknowledged"]
    """`accepted`: in the log, acknowledged by Kafka. `duplicate` is known with `?wait=outcome` only. `rejected`: not in
    the log, or a dead letter; sending it again as it is ends the same. `not_acknowledged`: send it again, same id."""
    code: str = ""
    """Why it was rejected: a reason of dead letters, or `account_not_allowed`; else empty."""
    pointer: str = ""
    """JSON pointer into the event."""
    detail: str = ""
    partition: Count | None = None
    offset: Count | None = None
    """Where it stands in the input log, once accepted."""
    outcome: EventOutcome | None = None
    """With `?wait=outcome`; null when it did not come in time."""


class EventsAnswer(WireModel):
    """The verdict on a batch, one result for each event and in its order."""

    accepted: Count
    duplicate: Count
    rejected: Count
    not_acknowledged: Count
    results: list[EventResult]


class EstimateStep(WireModel):
    rule: str
    detail: str
    credits_per_image: NotNegative


class EstimateItem(WireModel):
    """The price of one usage, or why it has none."""

    credits: NotNegative | None
    service: str | None = None
    images: Count | None = None
    credits_per_image: NotNegative | None = None
    price_book: str | None = None
    steps: list[EstimateStep] = Field(default=[])
    code: str = ""
    pointer: str = ""
    detail: str = ""


class EstimateUsage(OpenModel):
    """`type` (CloudEvents type or service) and `data` of a usage event; whatever else it has is ignored."""

    type: str
    data: dict[str, Any] = Field(default={})


class EstimateRequest(WireModel):
    """`POST /v1/estimate`."""

    usages: Annotated[list[EstimateUsage], Field(min_length=1)]


class EstimateAnswer(WireModel):
    """Prices by the book that is in force now. Nothing is set aside: that is a hold."""

    credits: NotNegative
    """Of all that have a price."""
    items: list[EstimateItem]


class ParameterFault(WireModel):
    where: str
    """Such as `query/from`."""
    detail: str


class Problem(OpenModel):
    """RFC 9457, `application/problem+json`. Decide by `code`; `title` and `detail` are for people."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457. Decide by `code`."})

    type: str
    """`/problems/<code>`, relative to the gateway."""
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    """Whether the same request may succeed later without anything being changed."""
    pointer: str | None = None
    """JSON pointer into the request's body."""
    request_id: str | None = None
    required: str | None = None
    """With 402: what it takes."""
    available: str | None = None
    """With 402: what there is."""
    resets_at: str | None = None
    """With 402: when the period ends, and new credits come with it."""
    errors: list[ParameterFault] | None = None


class NewKeyRequest(WireModel):
    """`POST /v1/keys`."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=5)]
    accounts: Annotated[list[AccountId], Field(min_length=1, max_length=1000)] | None = None
    """What it may touch; null: every account, and only so `admin`."""


class KeyAnswer(WireModel):
    """A key without its secret."""

    key_id: str
    name: str
    scopes: list[Scope]
    accounts: list[AccountId] | None
    created_at: UtcInstant
    created_by: str
    revoked_at: UtcInstant | None


class NewKeyAnswer(KeyAnswer):
    """A new key. `key` is shown this once and kept nowhere."""

    key: str


class KeysAnswer(WireModel):
    keys: list[KeyAnswer]


class BalanceAnswer(WireModel):
    """`GET /v1/accounts/{account_id}/balance`."""

    account_id: AccountId
    plan: str
    next_plan: str
    status: Literal["open", "closed"]
    posted: CreditAmount
    held: NotNegative
    available: CreditAmount
    overage_ceiling: NotNegative | None
    overage: NotNegative
    alert_thresholds: list[Count]
    auto_topup: AutoTopup | None
    """null: off."""
    holds: list[OpenHold]
    grants: list[GrantBalance]
    period_used: NotNegative
    period_start: UtcInstant
    period_end: UtcInstant
    entry_seq: Count
    accepted_at: UtcInstant
    """The newest event or command that changed it."""
    is_behind: bool
    """Whether events that this gateway has acknowledged may not be in it yet: no worker was in time."""


class UsageItem(WireModel):
    """One usage event and what became of it."""

    event_id: str
    source: str
    service: Service
    outcome: UsageOutcome
    reason: str
    occurred_at: UtcInstant
    accepted_at: UtcInstant
    channel: str
    images: Count
    credits: CreditAmount
    rated_credits: NotNegative
    price_book: str
    balance_after: CreditAmount
    partition: Count
    offset: Count


class _Page(WireModel):
    next_cursor: str | None
    """Where the list goes on; null at its end."""


class UsagePage(_Page):
    items: list[UsageItem]


class LedgerItem(WireModel):
    """One change of the account's credits; its fields as in `ledger_entry.v1`."""

    entry_seq: Count
    kind: EntryKind
    credits: CreditAmount
    balance_after: CreditAmount
    booked_at: UtcInstant
    accepted_at: UtcInstant
    cause_source: str
    cause_id: str
    grants: list[GrantShare]
    partition: Count
    offset: Count
    previous_hash: str
    entry_hash: str


class LedgerPage(_Page):
    items: list[LedgerItem]


class StatementItem(WireModel):
    """One closed period; its fields as in `account_statement.v1`."""

    plan: str
    period_start: UtcInstant
    period_end: UtcInstant
    opening: NotNegative
    granted: NotNegative
    overage: NotNegative
    reversed: NotNegative
    used: NotNegative
    expired: NotNegative
    voided: NotNegative
    closing: NotNegative
    overage_price: str | None
    overage_amount: str
    overage_returned: NotNegative
    overage_returns: list[OverageReturn]
    currency: str
    last_entry_seq: Count
    accepted_at: UtcInstant
    partition_seq: Count


class StatementsPage(_Page):
    items: list[StatementItem]


class AlertItem(WireModel):
    """One alert; its fields as in `account_alert.v1`."""

    alert_id: str
    kind: Literal["threshold", "limit_reached"]
    threshold: Count | None
    used: NotNegative
    base: NotNegative
    period_start: UtcInstant
    period_end: UtcInstant
    accepted_at: UtcInstant
    partition_seq: Count


class AlertsPage(_Page):
    items: list[AlertItem]


class NotificationsRequest(WireModel):
    """`PUT /v1/accounts/{account_id}/notifications`: whom to write to. It replaces what was."""

    recipients: Annotated[list[Address], Field(max_length=RECIPIENTS_MAX)]
    language: Language = "en"
    time_zone: TimeZone = "UTC"
    """IANA name, for the dates in mails."""


class WebhookAnswer(WireModel):
    """A webhook endpoint without its secret."""

    endpoint_id: str
    url: str
    description: str
    created_at: UtcInstant
    updated_at: UtcInstant
    previous_secret_until: UtcInstant | None
    """After a rotation: until then messages are signed with the old secret too."""


class NewWebhookAnswer(WebhookAnswer):
    """A new endpoint, or a new secret of one. `secret` is shown this once."""

    secret: str
    """`whsec_…`, as libraries of Standard Webhooks take it."""


class NotificationsAnswer(WireModel):
    """`GET /v1/accounts/{account_id}/notifications`."""

    account_id: AccountId
    recipients: list[Recipient]
    language: Language
    time_zone: str
    webhooks: list[WebhookAnswer]


class WebhooksAnswer(WireModel):
    webhooks: list[WebhookAnswer]


class NewWebhookRequest(WireModel):
    """`POST /v1/accounts/{account_id}/notifications/webhooks`."""

    url: WebhookUrl
    """https, and an address outside this network unless the deployment allows it."""
    description: Description = ""


class TestRequest(WireModel):
    """`POST /v1/accounts/{account_id}/notifications/test`."""

    target_id: Annotated[str, Field(pattern=TARGET_ID_PATTERN)] | None = None
    """One recipient or webhook; null: all of the account."""


class QueuedAnswer(WireModel):
    """What the notifier was asked to deliver; how far it came is in the list of deliveries."""

    delivery_ids: list[str]


class DeliveryItem(WireModel):
    """One alert to one recipient or webhook; its fields as in `alert_delivery.v1`."""

    delivery_id: str
    alert_id: str
    kind: AlertKind
    threshold: Count | None
    accepted_at: UtcInstant
    channel: Literal["email", "webhook"]
    target_id: str
    target: str
    status: DeliveryStatus
    attempts: Count
    redeliveries: Count
    last_code: Count | None
    last_error: str
    next_attempt_at: UtcInstant | None
    updated_at: UtcInstant


class DeliveriesPage(_Page):
    items: list[DeliveryItem]


class AccountsAnswer(WireModel):
    """Accounts that the key may touch, in alphabetical order."""

    accounts: list[AccountId]
    more: bool
    """Whether there are more that begin so."""


class PublishPriceBookRequest(PriceBook):
    """`POST /v1/price-books`: a whole price book, immutable once it is published."""


class PublishPlansRequest(PlanCatalog):
    """`POST /v1/plans`: a whole plan catalogue, immutable once it is published."""


class PartitionAnswer(WireModel):
    """What one partition says of a publication."""

    partition: int
    offset: Count
    outcome: Literal["accepted", "refused", "duplicate", "dead_letter"]
    is_accepted: bool
    """Also of the duplicate of an accepted one."""
    reason: str
    detail: str


class PublishedAnswer(WireModel):
    """A version that every partition has accepted."""

    version: str
    sha256: str
    effective_from: UtcInstant
    partitions: list[PartitionAnswer]


class PlansAnswer(WireModel):
    """Plan catalogues in the order of their `effective_from`; the last one that has begun is in force."""

    plan_catalogs: list[PlanCatalog]


class PriceBooksAnswer(WireModel):
    """Price books in the order of their `effective_from`; the last one that has begun is in force."""

    price_books: list[PriceBook]


class FreshnessAnswer(WireModel):
    """How far lists, totals and exports are behind the balance."""

    as_of: UtcInstant
    """Whatever changed a balance until then is in them."""
    lag_ms: Count
    is_stale: bool
    """Whether they are more than a minute behind."""


class DeadLetterItem(WireModel):
    """A record that could not be metered, without its bytes; its fields as in `dead_letter.v1`."""

    partition: Count
    offset: Count
    reason: str
    detail: str
    pointer: str
    account_id: str
    event_id: str
    source: str
    type: str
    accepted_at: UtcInstant


class DeadLettersAnswer(WireModel):
    dead_letters: list[DeadLetterItem]


class DeadLetterAnswer(DeadLetterItem):
    """A dead letter whole."""

    payload: str
    """Its bytes as text; what is no UTF-8 as backslash escapes."""
    event: dict[str, Any] | None
    """The usage event in it, if it could be metered now as it is; else null."""
    fault: str
    """Why it could not."""


class ReplayDeadLetterRequest(WireModel):
    """`POST /v1/dead-letters/{partition}/{offset}/replay`."""

    event: dict[str, Any] | None = None
    """The mended event; null: the letter's own."""
    dry_run: bool = False


class ReplayAnswer(WireModel):
    account_id: AccountId
    event_id: str
    command: CommandAnswer | None
    """null after a dry run: it could be put back."""


class ReverseChargeRequest(WireModel):
    """`POST /v1/accounts/{account_id}/charges/{event_id}/reverse`."""

    credits: GrantCredits | None = None
    """null: all that is left of it."""
    reason: Note = ""
    offset: Count | None = None
    """Which charge, where the id names several."""


class RerateChargeRequest(WireModel):
    """`POST /v1/accounts/{account_id}/charges/{event_id}/rerate`."""

    price_book: str
    reason: Note = ""
    offset: Count | None = None


class PartitionLag(WireModel):
    partition: Count
    newest: Count
    """Number of the newest record that changed a balance."""
    stored: Count
    """Of these the newest in ClickHouse."""


class HourTotal(WireModel):
    outcome: UsageOutcome
    records: Count
    credits: CreditAmount


class ReasonTotal(WireModel):
    reason: str
    records: Count


class PipelineAnswer(WireModel):
    """`GET /v1/pipeline`."""

    freshness: FreshnessAnswer
    partitions: list[PartitionLag]
    accounts: Count
    """In this gateway's memory."""
    posted_in_memory: CreditAmount
    """The sum of their balances, from Kafka."""
    posted_in_ledger: CreditAmount
    """The sum of all ledger entries in ClickHouse: the same number, once the sink has caught up."""
    last_hour: list[HourTotal]
    dead_letters: list[ReasonTotal]


class TopupItem(WireModel):
    """One top-up order; its fields as in `topup_order.v1`."""

    order_number: Count
    pack: str
    credits: CreditAmount
    price: str
    currency: str
    threshold: CreditAmount
    credits_left: CreditAmount
    accepted_at: UtcInstant


class TopupsPage(_Page):
    items: list[TopupItem]


class UsageTotal(WireModel):
    service: Service | None = None
    day: str | None = None
    """Of the time zone, as in 2026-11-23."""
    hour: str | None = None
    """Of the time zone, as in 2026-11-23T14:00."""
    metered: Count
    denied: Count
    duplicates: Count
    corrections: Count
    images: Count
    credits: CreditAmount


class UsageTotalsAnswer(WireModel):
    account_id: AccountId
    by: Literal["service", "day", "hour", "service_by_day", "service_by_hour"]
    time_zone: str
    totals: list[UsageTotal]


class ChargeAnswer(WireModel):
    """Everything that is known of an event id in one account, each as in its schema."""

    metered_records: list[dict[str, Any]]
    dead_letters: list[dict[str, Any]]
    ledger_entries: list[dict[str, Any]]
