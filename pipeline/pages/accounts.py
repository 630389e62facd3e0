"""What every screen of an account begins with: its balance, its plan, how fresh the rest is."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from pipeline.client.origin import now_text
from pipeline.gateway.problems import ProblemError
from pipeline.pages.inside import Inside

_NO_PLAN: Final[dict[str, Any]] = {
    "paid": True, "monthly_credits": "0", "overage_price": None, "currency": "", "packs": [], "note": "",
    "period_months": 1,
}  # fmt: skip
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of lists and totals. `state`: `unknown` when ClickHouse does not answer."""

    state: Literal["fresh", "stale", "unknown"]
    as_of: str = ""
    lag_ms: int = 0


async def plans(inside: Inside) -> list[Answer]:
    """The plans in force, the smallest first, each as in its catalogue."""
    catalogs = (await inside.get("/v1/plans"))["plan_catalogs"]
    in_force = [each for each in catalogs if each["effective_from"] <= now_text()][-1]
    return sorted(in_force["plans"], key=lambda plan: Decimal(plan["monthly_credits"]))


def plan_of(found: list[Answer], name: str) -> Answer:
    """One by its id; of a plan that was published elsewhere only its name is known."""
    return next((each for each in found if each["plan"] == name), {**_NO_PLAN, "plan": name, "name": name})


async def freshness(inside: Inside, account: str) -> Freshness:
    """How far lists are behind. An honest word when nobody can say."""
    try:
        found = await inside.get(f"/v1/accounts/{account}/freshness")
    except ProblemError as problem:
        if problem.code in {"store_unavailable", "busy"}:
            return Freshness("unknown")
        raise
    return Freshness("stale" if found["is_stale"] else "fresh", found["as_of"], found["lag_ms"])
