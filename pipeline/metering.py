"""The core: a batch of one partition's log goes in, records and new state come out. No clock, no I/O, no Faust.

Any record first lets time pass for its own account; a tick does so for accounts that nobody uses. The rest of the
rules stand in `usage_rules` and `command_rules`, and under `domain/`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from pipeline import emit
from pipeline.command_rules import answer_command
from pipeline.core import Core, Folded, PartitionView, initial_cursor
from pipeline.domain.commands import Command, Publication, Tick
from pipeline.domain.usage import UsageEvent
from pipeline.emit import OutRecord, Place
from pipeline.evidence import NO_EVIDENCE, Evidence
from pipeline.publication_rules import answer_publication
from pipeline.state import DIGEST_MODULUS, encode_account, next_boundary_ms, row_digest
from pipeline.usage_rules import answer_usage
from pipeline.validate import Invalid, LogRecord, parse
from pipeline.work import Work

__all__ = [
    "Batch",
    "Core",
    "Folded",
    "LogRecord",
    "OutRecord",
    "PartitionView",
    "initial_cursor",
]


class Batch:
    """One batch of one partition: `feed` it records in slices, `finish` it once.

    Slices, because the shell looks at its clock between them; the result does not depend on how they are cut.
    """

    def __init__(self, core: Core, view: PartitionView) -> None:
        """Raises ValueError when the partition's schedule names content that it has not got."""
        self._work = Work(core, view)

    def feed(self, records: Iterable[LogRecord], evidence: Evidence = NO_EVIDENCE) -> None:
        """Fold records, in the order of the log. `evidence`: what `evidence.wanted` names of them and was found."""
        work = self._work
        work.evidence = evidence
        rules, keys = work.core.rules, work.core.command_keys
        for record in records:
            place = work.next_place(record)
            parsed = parse(record, event_bytes_max=rules.event_bytes_max, command_keys=keys)
            match parsed:
                case UsageEvent():
                    answer_usage(work, record, parsed, place)
                    work.consider_topup(record.key or b"", place)
                case Command():
                    answer_command(work, record, parsed, place)
                    work.consider_topup(record.key or b"", place)
                case Publication():
                    answer_publication(work, record, parsed, place)
                case Tick():
                    _tick(work, place)
                case Invalid():
                    work.dead_letter(record, parsed, place)
                case _:
                    assert_never(parsed)

    def finish(self) -> Folded:
        """Everything the batch made, with the cursor that says so."""
        work = self._work
        rows = {key: encode_account(account) for key, account in work.accounts.items()}
        before, digest = work.view.accounts, work.view.cursor.digest
        for key, row in rows.items():
            digest += row_digest(key, row)
            old = before.get(key)
            if old is not None:
                digest -= row_digest(key, old)
        # In the order of the log, as all outputs are: who reads up to an input offset may stop there.
        for key in sorted(rows, key=lambda key: work.places[key].offset):
            work.records.append(emit.account_balance(work.accounts[key], work.places[key]))
        digest += sum(row_digest(key, content) for key, content in work.published.items())
        cursor = replace(
            work.cursor,
            next_offset=work.next_offset,
            partition_seq=work.seq,
            clock_ms=work.clock,
            digest=digest % DIGEST_MODULUS,
        )
        return Folded(
            records=work.records,
            accounts=rows,
            published=work.published,
            identities=work.identities,
            cursor=cursor,
            dead_letters=work.dead_letters,
        )


def _tick(work: Work, place: Place) -> None:
    """Let time pass for accounts whose boundary has come, a bounded number for each tick.

    The view knows the rows as they were before this batch, so what the batch has touched is looked at here.
    Order and bound depend on the log alone, not on how it is cut into batches.
    """
    most, clock = work.core.rules.boundary_accounts_max, work.clock
    touched = [
        (each.next_boundary, key) for key, each in work.accounts.items() if each.next_boundary <= clock
    ]
    resting = [
        (next_boundary_ms(work.view.accounts[key]), key)
        for key in work.view.due_accounts(clock, most + len(work.accounts))
        if key not in work.accounts
    ]
    for _, key in sorted(touched + resting)[:most]:
        work.account_now(key, place)
        work.consider_topup(key, place)
