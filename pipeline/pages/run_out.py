"""What an account is told about its credits: one banner for each way of running out (product.md section 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from pipeline.pages import words

Tone = Literal["info", "warning", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    code: str
    """As the gateway's answers have it, where they have one."""
    tone: Tone
    title: str
    text: str
    link: str = ""
    """Under the account's pages."""
    link_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the banners are decided by."""

    balance: Mapping[str, Any]
    plan: Mapping[str, Any]
    used: Decimal
    base: Decimal
    reset: str
    """In words, in the reader's time zone."""
    last_denial: Mapping[str, Any] | None
    """The newest usage, if it was denied."""

    @property
    def percent(self) -> int:
        return words.percent(self.used, self.base)

    @property
    def available(self) -> Decimal:
        return Decimal(self.balance["available"])


def used_and_base(balance: Mapping[str, Any], plan: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """What the bar shows: what the period has used, of what it had. Without monthly credits: of the active grants."""
    posted, overage = Decimal(balance["posted"]), Decimal(balance["overage"])
    used = Decimal(balance["period_used"])
    if Decimal(plan["monthly_credits"]) > 0:
        return used, used + posted - overage
    active = [each for each in balance["grants"] if each["effective_at"] <= balance["accepted_at"]]
    base = sum((Decimal(each["credits"]) for each in active), Decimal(0))
    return base - posted + overage, base


def banners(standing: Standing) -> list[Banner]:
    """The most urgent first."""
    balance = standing.balance
    found = [
        _closed(balance),
        _overage(standing),
        _topping_up(balance),
        _out(standing),
        _too_little(standing),
    ]
    shown = [each for each in found if each is not None]
    if not shown and standing.base > 0 and standing.percent >= 80:
        shown.append(
            Banner(
                code="near_limit",
                tone="warning",
                title=f"{standing.percent} % of your credits are used",
                text=f"{words.amount(standing.available)} are left until {standing.reset}.",
                link="billing",
                link_text="See larger plans",
            )
        )
    return shown


def _closed(balance: Mapping[str, Any]) -> Banner | None:
    if balance["status"] != "closed":
        return None
    return Banner(
        code="account_closed", tone="stop", title="This account is closed", text="Nothing is charged to it."
    )


def _overage(standing: Standing) -> Banner | None:
    overage = Decimal(standing.balance["overage"])
    if overage <= 0:
        return None
    price = standing.plan["overage_price"]
    costs = f", at {words.amount(price)} {standing.plan['currency']} each" if price else ""
    return Banner(
        code="overage",
        tone="warning",
        title=f"Overage: {words.amount(overage)} credits billed",
        text=f"Overage protection is off, so usage goes on beyond your credits{costs}, "
        f"up to {words.amount(standing.balance['overage_ceiling'] or 0)} credits in this period.",
        link="billing",
        link_text="Overage settings",
    )


def _topping_up(balance: Mapping[str, Any]) -> Banner | None:
    chosen = balance["auto_topup"]
    if not chosen or chosen["open_order"] is None:
        return None
    return Banner(
        code="topping_up",
        tone="info",
        title="Topping up…",
        text=f"The pack {chosen['pack']} was ordered and is added as soon as it is paid.",
        link="billing",
        link_text="Top-up settings",
    )


def _out(standing: Standing) -> Banner | None:
    if standing.available > 0 or standing.balance["status"] == "closed":
        return None
    if not standing.plan["paid"]:
        return Banner(
            code="plan_paused",
            tone="stop",
            title=f"Paused until {standing.reset}, or until you upgrade",
            text="The free plan's credits of this period are used up. Requests are refused and cost nothing.",
            link="billing",
            link_text="Upgrade",
        )
    if Decimal(standing.plan["monthly_credits"]) == 0:
        return Banner(
            code="credits_exhausted",
            tone="stop",
            title="Your prepaid credits are used up",
            text="Requests are refused and cost nothing. Buy credits to go on.",
            link="billing",
            link_text="Buy credits",
        )
    return Banner(
        code="credits_exhausted",
        tone="stop",
        title="Blocked at 100 %: no extra cost",
        text=f"Requests are refused until {standing.reset}, when your credits reset.",
        link="billing",
        link_text="Ways to go on",
    )


def _too_little(standing: Standing) -> Banner | None:
    denied = standing.last_denial
    if denied is None or standing.available <= 0 or Decimal(denied["rated_credits"]) <= standing.available:
        return None
    return Banner(
        code="insufficient_credits",
        tone="warning",
        title="The last request needed more credits than there are",
        text=f"{words.service(denied['service'])} needs {words.amount(denied['rated_credits'])}, "
        f"you have {words.amount(standing.available)}. It was refused and cost nothing; a smaller one may fit.",
        link="credits",
        link_text="Estimate a request",
    )
