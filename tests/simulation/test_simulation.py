"""Many worlds, judged by the auditor. More seeds: `CREDITSTREAM_SIMULATION_SEEDS=20000 pytest tests/simulation`."""

import json
import os
from decimal import Decimal

import pytest

from pipeline.domain.instants import parse_instant
from pipeline.state import decode_account
from tests.builders import TICK, Partition
from tests.simulation.auditor import AuditedAlert, AuditedStatement, Verdict, statement_of
from tests.simulation.world import limits_of, play

SEEDS = int(os.environ.get("CREDITSTREAM_SIMULATION_SEEDS", "300"))
CHUNK = 50

MALFORMED = {
    "malformed_json", "invalid_envelope", "unknown_type", "key_mismatch", "invalid_data", "too_large",
}  # fmt: skip
USAGE_ORDERS = (".capture.v1", ".readmit.v1", ".reverse.v1", ".rerate.v1")
"""Commands that say two things: what became of the usage, and their answer."""
UNSIGNED = {"unsigned", "bad_signature"}


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_core_says_what_the_auditor_says_in_every_world(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        partition, verdicts, auditor = play(seed)
        said = outcomes(partition)
        for offset, verdict in enumerate(verdicts):
            assert said.get(offset, ("tick", "", Decimal(0))) == expected(verdict), (
                f"seed {seed}, offset {offset}"
            )
        # Idle accounts have had no record since their last boundary.
        with limits_of(seed):
            partition.fold(TICK, at=auditor.clock_ms)
        auditor.judge(auditor.clock_ms, None, json.dumps(dict(TICK)).encode(), ())
        assert balances(partition) == auditor.balances(), f"seed {seed}"
        audited = [each for name in sorted(auditor.accounts) for each in auditor.accounts[name].statements]
        assert statements(partition) == audited, f"seed {seed}"
        ordered = {
            name: account.topup.orders for name, account in auditor.accounts.items() if account.topup.orders
        }
        assert orders(partition) == ordered, f"seed {seed}"
        fired = [each for name in sorted(auditor.accounts) for each in auditor.accounts[name].alerts]
        assert alerts(partition) == fired, f"seed {seed}"


def expected(verdict: Verdict) -> tuple[str, str, Decimal]:
    return verdict.outcome, verdict.reason, verdict.balance_after if verdict.outcome != "tick" else Decimal(0)


def outcomes(partition: Partition) -> dict[int, tuple[str, str, Decimal]]:
    """Offset → outcome, reason (of dead letters the auditor's class), balance after."""
    said: dict[int, tuple[str, str, Decimal]] = {}
    ordered = {
        each["offset"] for each in partition.of("command-results") if each["type"].endswith(USAGE_ORDERS)
    }
    usage = [each for each in partition.of("metered-records") if each["offset"] not in ordered]
    for each in [*usage, *partition.of("command-results")]:
        assert each["offset"] not in said
        said[each["offset"]] = (each["outcome"], each["reason"], Decimal(each["balance_after"]))
    for each in partition.of("dead-letters"):
        assert each["offset"] not in said
        reason = each["reason"]
        kind = "malformed" if reason in MALFORMED else "unsigned" if reason in UNSIGNED else reason
        said[each["offset"]] = ("dead_letter", kind, Decimal(0))
    return said


def balances(partition: Partition) -> dict[str, Decimal]:
    """The table's own words, once time has passed for everybody."""
    return {
        key.decode(): Decimal(decode_account(key.decode(), row).posted).scaleb(-6)  # type: ignore[arg-type]
        for key, row in partition.accounts.items()
    }


def statements(partition: Partition) -> list[AuditedStatement]:
    """In the order of each account."""
    return [
        statement_of(each, parse_instant)
        for each in sorted(partition.of("statements"), key=lambda each: each["account_id"])
    ]


def orders(partition: Partition) -> dict[str, list[Decimal]]:
    """Credits of top-up orders by account; their numbers have no gap."""
    found: dict[str, list[Decimal]] = {}
    for each in partition.of("topup-orders"):
        found.setdefault(each["account_id"], []).append(Decimal(each["credits"]))
        assert each["order_number"] == len(found[each["account_id"]])
    return found


def alerts(partition: Partition) -> list[AuditedAlert]:
    """In the order of each account."""
    return [
        AuditedAlert(
            each["threshold"] or 0,
            parse_instant(each["period_start"]),
            Decimal(each["used"]),
            Decimal(each["base"]),
        )
        for each in sorted(partition.of("alerts"), key=lambda each: each["account_id"])
    ]
