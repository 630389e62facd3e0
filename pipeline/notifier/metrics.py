"""What the notifier's `/metrics` says. No label names an account or a receiver: their number has no bound."""

from typing import Final

from pipeline.telemetry import Register

_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)


class Metrics:
    """One registry for each notifier, so that tests may have several."""

    def __init__(self) -> None:
        of = Register()
        self.registry = of.registry
        self.attempts = of.counter(
            "notifier_attempts",
            "Tries by channel and what the delivery became: delivered, retrying or dead",
            "channel",
            "status",
        )
        self.seconds = of.histogram(
            "notifier_attempt_seconds", "From the beginning of a try to its end", _SECONDS, "channel"
        )
        self.open = of.gauge(
            "notifier_open_deliveries",
            "Deliveries that are pending or retrying, of this process's partitions",
        )
        self.running = of.gauge("notifier_running_attempts", "Tries that have begun and not ended")
        self.requests_refused = of.counter(
            "notifier_requests_refused", "Tests and redeliveries without a good signature, or too old"
        )
        self.settings_refused = of.gauge(
            "notifier_settings_records_refused",
            "Records on the settings' topic without a good signature",
        )
