"""Many worlds, judged by the auditor. More seeds: `CREDITSTREAM_SIMULATION_SEEDS=20000 pytest tests/simulation`."""

import os
from decimal import Decimal

import pytest

from pipeline.state import decode_account
from tests.builders import Partition
from tests.simulation.auditor import Verdict
from tests.simulation.world import play

SEEDS = int(os.environ.get("CREDITSTREAM_SIMULATION_SEEDS", "300"))
CHUNK = 50

MALFORMED = {
    "malformed_json", "invalid_envelope", "unknown_type", "key_mismatch", "invalid_data", "too_large",
}  # fmt: skip
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
        assert balances(partition, auditor.clock_ms) == auditor.balances(), f"seed {seed}"


def expected(verdict: Verdict) -> tuple[str, str, Decimal]:
    return verdict.outcome, verdict.reason, verdict.balance_after if verdict.outcome != "tick" else Decimal(0)


def outcomes(partition: Partition) -> dict[int, tuple[str, str, Decimal]]:
    """Offset → outcome, reason (of dead letters the auditor's class), balance after."""
    said: dict[int, tuple[str, str, Decimal]] = {}
    for each in [*partition.of("metered-records"), *partition.of("command-results")]:
        assert each["offset"] not in said
        said[each["offset"]] = (each["outcome"], each["reason"], Decimal(each["balance_after"]))
    for each in partition.of("dead-letters"):
        assert each["offset"] not in said
        reason = each["reason"]
        kind = "malformed" if reason in MALFORMED else "unsigned" if reason in UNSIGNED else reason
        said[each["offset"]] = ("dead_letter", kind, Decimal(0))
    return said


def balances(partition: Partition, clock_ms: int) -> dict[str, Decimal]:
    """What the table says, of grants in effect: an idle account's row is as old as its last record."""
    left: dict[str, Decimal] = {}
    for key, row in partition.accounts.items():
        account = decode_account(key.decode(), row)  # type: ignore[arg-type]
        held = [
            amount
            for grant, amount in zip(account.grants, account.remaining, strict=True)
            if grant.expires_at is None or grant.expires_at > clock_ms
        ]
        begun = [
            grant.credits
            for grant in account.pending
            if grant.effective_at <= clock_ms and (grant.expires_at is None or grant.expires_at > clock_ms)
        ]
        left[key.decode()] = Decimal(sum(held + begun)).scaleb(-6)
    return left
