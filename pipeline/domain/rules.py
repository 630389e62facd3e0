"""The bounds within which the rules are applied; settings of a deployment, the same for all its workers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    hot_window_ms: int
    """How far an event's `time` may lie behind its acceptance."""
    late_ms: int
    """Usage up to this far behind is set aside for the late lane; beyond it is too late for good."""
    reversal_ms: int
    """How old a charge may be to be taken back; less than its metered record is kept."""
    ahead_ms: int
    """How far it may lie ahead."""
    event_bytes_max: int
    prepaid_months: int
    """When a prepaid grant ends that does not say so itself, counted from when it begins; 0: never (product.md 2)."""
    boundary_accounts_max: int
    """Accounts that one tick advances. By tick, not by batch: the result depends on the log alone."""
    publish_lead_ms: int
    """How long before it takes force a price book or plan catalogue must be in the log (design.md section 1: 60 s)."""

    @property
    def identity_ms(self) -> int:
        """How long an identity counts. A resend within the window had its first copy accepted after this long
        before: its `time` is at most the window old, and was at most `ahead_ms` ahead."""
        return self.hot_window_ms + self.ahead_ms
