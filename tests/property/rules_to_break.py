"""Which rule each property guards: a way to break it, and the tests that must then go red."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mutation:
    rule: str
    """What holds, in words, until it is broken."""
    file: str
    old: str
    """Stands in the file exactly once."""
    new: str
    red: tuple[str, ...]
    """Tests of this folder, by file and name."""


def _of(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"test_{module}.py::test_{name}" for name in names)


_DOMAIN: Final = "pipeline/domain/"
_IN_TURN: Final = "every_charge_is_paid_by_the_grants_in_their_turn"
_ADD_UP: Final = "after_every_record_all_credits_are_somewhere_and_nothing_is_below_zero"
_SUMS: Final = "the_balance_is_the_sum_of_the_entries_and_that_of_the_totals"
_STATEMENTS: Final = "statements_add_up_follow_each_other_and_are_said_once"
_ALERTS: Final = "alerts_come_at_equality_once_and_the_highest_on_a_jump"
_IDLE: Final = "an_idle_account_has_every_period_once_whenever_ticks_come"
_SMALLER: Final = "use_and_reversal_leave_what_the_smaller_use_leaves"
_TOPUP: Final = "one_crossing_orders_one_pack_and_a_period_no_more_than_its_cap"
_RESENDS: Final = "resends_anywhere_after_the_first_copy_change_nothing"
_PIECES: Final = "a_log_in_pieces_gives_the_same_bytes_as_in_one"

_IDENTITY: Final = (
    Mutation(
        "the account is part of the identity", _DOMAIN + "usage.py",
        "% (account, source.encode()", '% (b"", source.encode()',
        _of("limits", "one_identity_is_one_account_source_and_id")
        + _of("replay", "what_other_accounts_do_makes_no_difference_to_an_account"),
    ),
    Mutation(
        "the source is part of the identity", _DOMAIN + "usage.py",
        "source.encode(), event_id.encode()", 'b"", event_id.encode()',
        _of("limits", "one_identity_is_one_account_source_and_id"),
    ),
    Mutation(
        "an identity counts as long as a resend may come", "pipeline/work.py",
        "self.core.rules.identity_ms else None", "self.core.rules.hot_window_ms else None",
        _of("limits", "no_resend_within_its_window_is_charged_again"),
    ),
    Mutation(
        "the same id with other content is a conflict", "pipeline/usage_rules.py",
        "if first.fingerprint != event.fingerprint:", "if False:",
        _of("limits", "no_resend_within_its_window_is_charged_again"),
    ),
    Mutation(
        "a denial uses up the identity", "pipeline/usage_rules.py",
        "        work.remember(identity, event.fingerprint, REASON_CODES[reason]",
        "        (lambda *_: None)(identity, event.fingerprint, REASON_CODES[reason]",
        _of("replay", _RESENDS),
    ),
    Mutation(
        "a duplicate is told the first answer's cost", "pipeline/usage_rules.py",
        "METERED_CODE, rated.credits, place)", "METERED_CODE, NO_CREDITS, place)",
        _of("replay", "a_duplicate_is_told_what_the_first_copy_was_told"),
    ),
    Mutation(
        "a command is obeyed once", "pipeline/command_rules.py",
        "        _answer_again(work, record, command, first, account, place)\n        return\n",
        "        _answer_again(work, record, command, first, account, place)\n",
        _of("replay", _RESENDS),
    ),
    Mutation(
        "captured usage is remembered like any other", "pipeline/command_rules.py",
        "    work.remember(identity, event.fingerprint, METERED_CODE",
        "    (lambda *_: None)(identity, event.fingerprint, METERED_CODE",
        _of("holds", "captured_usage_is_charged_once_whichever_way_it_comes_again"),
    ),
)  # fmt: skip

_WINDOWS_AND_PRICES: Final = (
    Mutation(
        "the hot window has its end", "pipeline/work.py",
        "if occurred_at < accepted_at - rules.hot_window_ms", "if occurred_at <= accepted_at - rules.hot_window_ms",
        _of("limits", "usage_is_accepted_exactly_within_its_window",
            "a_command_is_obeyed_exactly_within_the_hot_window"),
    ),
    Mutation(
        "so far ahead and no further", "pipeline/work.py",
        "if occurred_at > accepted_at + rules.ahead_ms", "if occurred_at >= accepted_at + rules.ahead_ms",
        _of("limits", "usage_is_accepted_exactly_within_its_window",
            "a_command_is_obeyed_exactly_within_the_hot_window"),
    ),
    Mutation(
        "the late lane has its end", "pipeline/work.py",
        "return occurred_at >= accepted_at - self.core.rules.late_ms",
        "return occurred_at > accepted_at - self.core.rules.late_ms",
        _of("limits", "usage_is_accepted_exactly_within_its_window"),
    ),
    Mutation(
        "a price book counts from its very instant", _DOMAIN + "price_book.py",
        "if book.effective_from <= at:", "if book.effective_from < at:",
        _of("limits", "usage_costs_what_the_book_in_force_at_its_acceptance_says"),
    ),
    Mutation(
        "a hold locks its price", _DOMAIN + "hold_commands.py",
        "if each.version == hold.price_book", "if each.version == book_in_force(around.books, around.at).version",
        _of("holds", "a_hold_keeps_the_price_that_it_was_placed_by"),
    ),
    Mutation(
        "no image costs more than the cap", _DOMAIN + "rating.py",
        "min(max(base, price.least), price.most)", "max(base, price.least)",
        _of("rating", "an_image_costs_at_least_one_credit_and_at_most_nine_beside_its_background",
            "upscaling_costs_its_started_megapixels_between_one_and_nine"),
    ),
    Mutation(
        "a megapixel counts as soon as it is started", _DOMAIN + "rating.py",
        "started = -(-micropixels // (", "started = (micropixels // (",
        _of("rating", "upscaling_costs_its_started_megapixels_between_one_and_nine"),
    ),
    Mutation(
        "the tiers of a table are looked at from the smallest", _DOMAIN + "rating.py",
        "for tier in price.tiers:", "for tier in reversed(price.tiers[:-1]):",
        _of("rating", "a_larger_or_better_image_never_costs_less"),
    ),
    Mutation(
        "a batch costs the sum of its images", _DOMAIN + "rating.py",
        "image.credits * event.images", "image.credits * min(event.images, 10)",
        _of("rating", "a_batch_costs_the_sum_of_its_images_by_any_channel"),
    ),
)  # fmt: skip

_CREDITS: Final = (
    Mutation(
        "what fits is allowed, to the last credit", _DOMAIN + "ledger.py",
        "if required <= fits:", "if required < fits:",
        _of("holds", "of_concurrent_holds_exactly_as_many_are_admitted_as_fit")
        + _of("limits", "usage_is_denied_exactly_when_it_is_more_than_is_there"),
    ),
    Mutation(
        "what is held is not available", _DOMAIN + "account.py",
        "        return Credits(account.posted - account.held)\n", "        return Credits(account.posted)\n",
        _of("holds", "of_concurrent_holds_exactly_as_many_are_admitted_as_fit"),
    ),
    Mutation(
        "overage that is held is not available", _DOMAIN + "account.py",
        "ceiling - account.totals.overage - held", "ceiling - account.totals.overage",
        _of("holds", "of_concurrent_holds_exactly_as_many_are_admitted_as_fit"),
    ),
    Mutation(
        "overage that is booked counts towards the ceiling", _DOMAIN + "account.py",
        "ceiling - account.totals.overage - held", "ceiling - held",
        _of("credits", _ADD_UP),
    ),
    Mutation(
        "the burn order begins with the priority", _DOMAIN + "grants.py",
        "return grant.priority, expires_at, grant.created_at", "return grant.created_at, expires_at, grant.priority",
        _of("credits", _IN_TURN),
    ),
    Mutation(
        "of one priority what ends soonest goes first", _DOMAIN + "grants.py",
        "return grant.priority, expires_at, grant.created_at", "return grant.priority, -expires_at, grant.created_at",
        _of("credits", _IN_TURN),
    ),
    Mutation(
        "grants are kept in the burn order", _DOMAIN + "ledger.py",
        "place = sum(burn_order(each) < order for each in account.grants)", "place = len(account.grants)",
        _of("credits", _IN_TURN, "the_order_in_which_grants_are_given_does_not_matter"),
    ),
    Mutation(
        "a grant is used up before the next", _DOMAIN + "grants.py",
        "for index, there in enumerate(left):", "for index, there in reversed(list(enumerate(left))):",
        _of("credits", _IN_TURN, "no_credit_is_taken_from_a_grant_while_one_before_it_has_any"),
    ),
    Mutation(
        "overage is entered before the usage that takes it", _DOMAIN + "ledger.py",
        "if last.grant_id == OVERAGE:", "if False:",
        _of("credits", _ADD_UP),
    ),
    Mutation(
        "what is left of a grant that ends has its entry", _DOMAIN + "ledger.py",
        "    if not left:\n", "    if True:\n",
        _of("credits", _ADD_UP),
    ),
    Mutation(
        "a void counts in the totals", _DOMAIN + "ledger.py",
        "voided = Credits(voided - amount)", "voided = Credits(voided)",
        _of("credits", _SUMS, _STATEMENTS),
    ),
    Mutation(
        "a statement opens with what the one before closed with", _DOMAIN + "subscriptions.py",
        "NO_TOTALS._replace(opening=account.posted)", "NO_TOTALS",
        _of("credits", _STATEMENTS),
    ),
    Mutation(
        "a statement covers the entries since the one before", _DOMAIN + "subscriptions.py",
        "            last_entry_seq=account.entry_seq,", "            last_entry_seq=account.entry_seq + 1,",
        _of("credits", _STATEMENTS),
    ),
    Mutation(
        "entries are numbered without a gap", _DOMAIN + "ledger.py",
        "seq = account.entry_seq + 1", "seq = account.entry_seq + 2",
        _of("replay", "the_chain_of_each_account_has_no_gap"),
    ),
    Mutation(
        "a captured record says what its entry says", "pipeline/command_rules.py",
        "emit.metered(event, rated, captured.entry,", "emit.metered(event, rated, None,",
        _of("replay", "records_say_what_entries_say"),
    ),
)  # fmt: skip

_HOLDS: Final = (
    Mutation(
        "what is released goes back to its grant", _DOMAIN + "holds.py",
        "remaining[place] = Credits(remaining[place] + share.credits)", "remaining[place] = Credits(remaining[place])",
        _of("holds", "a_hold_that_is_released_or_expires_leaves_every_grant_as_it_was",
            "hold_then_capture_equals_direct_use")
        + _of("credits", _ADD_UP),
    ),
    Mutation(
        "a capture is paid from the front of what was held", _DOMAIN + "holds.py",
        "    for share in shares:\n        part = min(share.credits, due)",
        "    for share in reversed(shares):\n        part = min(share.credits, due)",
        _of("holds", "hold_then_capture_equals_direct_use"),
    ),
    Mutation(
        "a hold ends once", _DOMAIN + "holds.py",
        "for each in account.holds if each is not hold)", "for each in account.holds if each is not hold or charged)",
        _of("holds", "of_capture_release_and_expiry_exactly_one_wins",
            "every_hold_of_a_log_ends_at_most_once_and_in_time"),
    ),
    Mutation(
        "a hold ends in time, ticked or not", _DOMAIN + "account.py",
        ", *[each.expires_at for each in holds]])", "])",
        _of("holds", "a_capture_after_the_end_is_refused_ticked_or_not",
            "of_capture_release_and_expiry_exactly_one_wins"),
    ),
    Mutation(
        "it is remembered how a hold ended", "pipeline/work.py",
        "REASON_CODES[ended.end]", "REASON_CODES[Reason.HOLD_EXPIRED]",
        _of("holds", "of_capture_release_and_expiry_exactly_one_wins"),
    ),
    Mutation(
        "no capture is larger than its hold", _DOMAIN + "hold_commands.py",
        "if rated.credits > hold.credits:", "if False:",
        _of("holds", "a_hold_keeps_the_price_that_it_was_placed_by"),
    ),
    Mutation(
        "a partial hold is for whole images that fit", _DOMAIN + "hold_commands.py",
        "available(account) // rated.image.credits", "-(-available(account) // rated.image.credits)",
        _of("holds", "a_partial_hold_is_for_as_many_images_as_fit"),
    ),
)  # fmt: skip

_REVERSALS: Final = (
    Mutation(
        "the last used returns first", _DOMAIN + "reversals.py",
        "for share in reversed(shares):", "for share in shares:",
        _of("reversals", _SMALLER),
    ),
    Mutation(
        "a second part goes on where the first one ended", _DOMAIN + "reversals.py",
        "shares = _from_the_end(usage.shares, before, amount)",
        "shares = _from_the_end(usage.shares, Credits(0), amount)",
        _of("reversals", _SMALLER),
    ),
    Mutation(
        "no more is taken back than is left of the charge", _DOMAIN + "reversals.py",
        "next((each.credits for each in account.reversals if each.offset == usage.offset), NO_CREDITS)", "NO_CREDITS",
        _of("reversals", "no_more_is_taken_back_than_was_charged"),
    ),
    Mutation(
        "what returns to an ended grant expires", _DOMAIN + "reversals.py",
        "    if expired:\n", "    if False:\n",
        _of("credits", _ADD_UP),
    ),
    Mutation(
        "overage that is taken back is not owed", _DOMAIN + "reversals.py",
        "    if overage:\n", "    if False:\n",
        _of("reversals", _SMALLER),
    ),
    Mutation(
        "what is taken back is returned, expired or overage", _DOMAIN + "reversals.py",
        "returned = Credits(amount - overage - expired)", "returned = Credits(amount - expired)",
        _of("reversals", "every_credit_that_is_taken_back_returns_or_expires_or_is_not_owed"),
    ),
    Mutation(
        "billed overage is given back by the running period", _DOMAIN + "reversals.py",
        "if usage.entry_seq <= each.last_entry_seq), None)", "if usage.entry_seq < each.period_end * 0), None)",
        _of("reversals", "overage_of_a_closed_period_is_given_back_by_the_statement_of_the_running_one"),
    ),
    Mutation(
        "each statement gives back what was taken back in its own period", _DOMAIN + "subscriptions.py",
        "each._replace(returned=NO_CREDITS) for each in billed", "each for each in billed",
        _of("reversals", "overage_of_a_closed_period_is_given_back_by_the_statement_of_the_running_one"),
    ),
)  # fmt: skip

_PERIODS: Final = (
    Mutation(
        "a month's end is the anchor's day where there is one", _DOMAIN + "period.py",
        "day = min(start.day, ", "day = min(28, ",
        _of("periods", "a_boundary_is_the_anchors_day_or_the_months_last"),
    ),
    Mutation(
        "boundaries count from the anchor each time", _DOMAIN + "subscriptions.py",
        "end = months_after(before.anchor, months)", "end = months_after(at, plan.period_months)",
        _of("periods", _IDLE),
    ),
    Mutation(
        "a boundary is past at its own instant", _DOMAIN + "subscriptions.py",
        "while account.next_boundary <= to:", "while account.next_boundary < to:",
        _of("periods", "a_reset_gives_one_monthly_grant_and_touches_nothing_that_was_bought"),
    ),
    Mutation(
        "every boundary of a long sleep is booked", _DOMAIN + "subscriptions.py",
        "while account.next_boundary <= to:", "if account.next_boundary <= to:",
        _of("periods", _IDLE),
    ),
    Mutation(
        "monthly credits end with their period", _DOMAIN + "subscriptions.py",
        '"monthly", priority, amount, at, expires_at, at,', '"monthly", priority, amount, at, None, at,',
        _of("periods", "a_reset_gives_one_monthly_grant_and_touches_nothing_that_was_bought"),
    ),
    Mutation(
        "a reset ends no grant that goes on", _DOMAIN + "subscriptions.py",
        "for grant in [each for each in account.grants if each.expires_at == at]:",
        "for grant in [each for each in account.grants if at in {each.expires_at, account.subscription.period_end}]:",
        _of("periods", "a_reset_gives_one_monthly_grant_and_touches_nothing_that_was_bought"),
    ),
    Mutation(
        "a period's end leaves what is still to begin", _DOMAIN + "subscriptions.py",
        "tidied(_with_subscription(account, subscription), at)",
        "tidied(_with_subscription(account._replace(pending=()), subscription), at)",
        _of("periods", "a_grant_that_begins_at_the_boundary_survives_it"),
    ),
    Mutation(
        "an upgrade gives the difference", _DOMAIN + "subscriptions.py",
        "Credits(new.monthly_credits - old.monthly_credits)", "new.monthly_credits",
        _of("periods", "an_upgrade_adds_the_difference_and_takes_nothing"),
    ),
    Mutation(
        "a tick advances a bounded number of accounts", "pipeline/metering.py",
        "most, clock = work.core.rules.boundary_accounts_max,", "most, clock = 1000,",
        _of("periods", "a_bounded_tick_delays_idle_accounts_and_changes_nothing_else"),
    ),
)  # fmt: skip

_REPLAY: Final = (
    Mutation(
        "a tick sees what its own batch has touched", "pipeline/metering.py",
        "sorted(touched + resting)[:most]", "sorted(resting)[:most]",
        _of("replay", _PIECES),
    ),
    Mutation(
        "a what-if remembers what it said of usage that is corrected", "pipeline/what_if.py",
        'if said["offset"] in self._corrected:', "if False:",
        _of("replay", "the_same_prices_and_plans_in_a_what_if_make_no_difference"),
    ),
    Mutation(
        "a correction finds a record of its own batch", "pipeline/correction_rules.py",
        "work.evidence.get(named.event_offset) or _said_here(work, named.event_offset)",
        "work.evidence.get(named.event_offset)",
        _of("replay", _PIECES),
    ),
    Mutation(
        "the clock outlives the batch", "pipeline/metering.py",
        "            clock_ms=work.clock,", "            clock_ms=work.view.cursor.clock_ms,",
        _of("replay", _PIECES),
    ),
    Mutation(
        "the digest is that of the rows", "pipeline/metering.py",
        "                digest -= row_digest(key, old)", "                digest -= 0",
        _of("replay", "the_cursors_digest_is_that_of_the_rows"),
    ),
    Mutation(
        "a slice goes on from the one before", "pipeline/metering.py",
        "        work.evidence = evidence\n", "        work.evidence = evidence\n        work.accounts = {}\n",
        _of("replay", "a_batch_that_is_fed_in_slices_says_the_same"),
    ),
    Mutation(
        "usage for an unknown account is a dead letter", "pipeline/usage_rules.py",
        '        work.dead_letter_of(record, event, Reason.UNKNOWN_ACCOUNT, detail, "/subject", place)\n', "",
        _of("replay", "every_record_of_the_log_has_exactly_one_outcome"),
    ),
    Mutation(
        "what was taken back outlives a restart", "pipeline/state.py",
        'Reversed(*each) for each in fields["reversals"]', "Reversed(*each) for each in ()",
        _of("replay", "every_row_reads_back_as_it_was_written"),
    ),
)  # fmt: skip

_ALERTS_AND_TOPUP: Final = (
    Mutation(
        "an alert comes at equality", _DOMAIN + "alerts.py",
        ">= each * base and each not in sent", "> each * base and each not in sent",
        _of("limits", _ALERTS),
    ),
    Mutation(
        "an alert comes once", _DOMAIN + "alerts.py",
        "alerted=(*sent, *reached)", "alerted=sent",
        _of("limits", _ALERTS, "an_alert_comes_again_only_in_another_period_or_after_a_larger_limit"),
    ),
    Mutation(
        "a jump sends the highest alert", _DOMAIN + "alerts.py",
        "_alert(account, reached[-1], used, base)", "_alert(account, reached[0], used, base)",
        _of("limits", _ALERTS),
    ),
    Mutation(
        "a new period has its own alerts", _DOMAIN + "subscriptions.py",
        "alerted=(), topup=topup", "topup=topup",
        _of("limits", "a_new_period_sends_its_own_alerts_and_so_does_a_larger_limit"),
    ),
    Mutation(
        "a larger limit re-arms", _DOMAIN + "account_commands.py",
        "    if entries:  # One that begins later makes the limit larger then.\n", "    if False:\n",
        _of("limits", "a_new_period_sends_its_own_alerts_and_so_does_a_larger_limit"),
    ),
    Mutation(
        "the first denial of a period sends one alert", _DOMAIN + "alerts.py",
        "if LIMIT_REACHED in account.alerted:", "if False:",
        _of("limits", "an_alert_comes_again_only_in_another_period_or_after_a_larger_limit"),
    ),
    Mutation(
        "a denial sends its alert", "pipeline/work.py",
        "if reason in WANT_OF_CREDITS:", "if reason is Reason.PLAN_PAUSED:",
        _of("limits", "of_the_first_denial_of_a_period_one_alert_is_sent"),
    ),
    Mutation(
        "an open order is the only one", _DOMAIN + "topup.py",
        "if not state.armed or state.open_order:", "if False:",
        _of("limits", _TOPUP),
    ),
    Mutation(
        "top-ups stay below their cap", _DOMAIN + "topup.py",
        "state.bought + pack.credits > chosen.credits_max", "state.bought > chosen.credits_max",
        _of("limits", _TOPUP),
    ),
    Mutation(
        "an order is answered once", _DOMAIN + "account_commands.py",
        "if number != state.open_order:", "if number == state.open_order == 0:",
        _of("limits", _TOPUP),
    ),
)  # fmt: skip

MUTATIONS: Final = (
    *_IDENTITY,
    *_WINDOWS_AND_PRICES,
    *_CREDITS,
    *_HOLDS,
    *_REVERSALS,
    *_PERIODS,
    *_REPLAY,
    *_ALERTS_AND_TOPUP,
)
