"""Every shape by its name: the files under `json/` and `examples/` are called after it, and topics carry it.

A name ends in its version. What a version may still become is in README.md; anything else is a new name.
"""

from typing import Final

from pydantic import BaseModel

from schemas import account_command, publication, usage_event
from schemas.account_alert import AccountAlert
from schemas.account_balance import AccountBalance
from schemas.account_statement import AccountStatement
from schemas.alert_delivery import AlertDelivery
from schemas.alert_webhook import AlertWebhook
from schemas.command_result import CommandResult
from schemas.dead_letter import DeadLetter
from schemas.ledger_entry import LedgerEntry
from schemas.metered_record import MeteredRecord
from schemas.plan import PlanCatalog
from schemas.price_book import PriceBook
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_EVENTS,
    ACCOUNT_STATEMENTS,
    ALERT_DELIVERIES,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    TOPUP_ORDERS,
)
from schemas.topup_order import TopupOrder
from schemas.usage_export import UsageExport

USAGE: Final[dict[str, type[BaseModel]]] = {
    "usage.image_generation.v1": usage_event.ImageGeneration,
    "usage.background_removal.v1": usage_event.BackgroundRemoval,
    "usage.image_analysis.v1": usage_event.ImageAnalysis,
    "usage.upscaling.v1": usage_event.Upscaling,
    "usage.post_processing.v1": usage_event.PostProcessing,
    "usage.transparent_background.v1": usage_event.TransparentBackground,
}
COMMANDS: Final[dict[str, type[BaseModel]]] = {
    "account.open.v1": account_command.OpenAccountCommand,
    "account.grant.v1": account_command.IssueGrantCommand,
    "account.void_grant.v1": account_command.VoidGrantCommand,
    "account.change_plan.v1": account_command.ChangePlanCommand,
    "account.close.v1": account_command.CloseAccountCommand,
    "account.configure.v1": account_command.ConfigureCommand,
    "account.hold.v1": account_command.PlaceHoldCommand,
    "account.capture.v1": account_command.CaptureHoldCommand,
    "account.release.v1": account_command.ReleaseHoldCommand,
    "account.readmit.v1": account_command.ReadmitUsageCommand,
    "account.reverse.v1": account_command.ReverseUsageCommand,
    "account.rerate.v1": account_command.RerateUsageCommand,
    "account.topup_result.v1": account_command.AnswerTopupCommand,
}
PUBLICATIONS: Final[dict[str, type[BaseModel]]] = {
    "schedule.price_book.v1": publication.PublishPriceBook,
    "schedule.plan_catalog.v1": publication.PublishPlanCatalog,
}
EVENTS: Final[dict[str, type[BaseModel]]] = {
    **USAGE,
    **COMMANDS,
    **PUBLICATIONS,
    "tick.v1": account_command.Tick,
}
"""What others write. The CloudEvents type is `org.apimage.` and the name."""

RECORDS: Final[dict[str, type[BaseModel]]] = {
    "metered_record.v1": MeteredRecord,
    "ledger_entry.v1": LedgerEntry,
    "account_balance.v1": AccountBalance,
    "account_statement.v1": AccountStatement,
    "account_alert.v1": AccountAlert,
    "alert_delivery.v1": AlertDelivery,
    "alert_webhook.v1": AlertWebhook,
    "topup_order.v1": TopupOrder,
    "command_result.v1": CommandResult,
    "dead_letter.v1": DeadLetter,
}
"""What the worker writes, and the notifier: its deliveries, and what webhooks bring."""

DATA_FILES: Final[dict[str, type[BaseModel]]] = {"price_book.v1": PriceBook, "plan_catalog.v1": PlanCatalog}
"""What a release brings along, and what is published later: `price_books/`, `plans/`."""

DOCUMENTS: Final[dict[str, type[BaseModel]]] = {"usage_export.v1": UsageExport}
"""What the gateway hands out as a file."""

SHAPES: Final[dict[str, type[BaseModel]]] = {**EVENTS, **RECORDS, **DATA_FILES, **DOCUMENTS}

CARRIED: Final[dict[str, tuple[str, ...]]] = {
    ACCOUNT_EVENTS: tuple(EVENTS),
    METERED_RECORDS: ("metered_record.v1",),
    LEDGER_ENTRIES: ("ledger_entry.v1",),
    ACCOUNT_BALANCES: ("account_balance.v1",),
    ACCOUNT_STATEMENTS: ("account_statement.v1",),
    ACCOUNT_ALERTS: ("account_alert.v1",),
    ALERT_DELIVERIES: ("alert_delivery.v1",),
    TOPUP_ORDERS: ("topup_order.v1",),
    COMMAND_RESULTS: ("command_result.v1",),
    DEAD_LETTERS: ("dead_letter.v1",),
}
"""Topic → shapes. Topics that are not here are internal: identities, sink plans, keys, notification settings, the
changelog."""
