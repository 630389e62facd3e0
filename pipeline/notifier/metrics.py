"""What the notifier's `/metrics` says. No label names an account or a receiver: their number has no bound."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)


class Metrics:
    """One registry for each notifier, so that tests may have several."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.attempts = Counter(
            "creditstream_notifier_attempts",
            "Tries by channel and what the delivery became: delivered, retrying or dead",
            ["channel", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "creditstream_notifier_attempt_seconds",
            "From the beginning of a try to its end",
            ["channel"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.open = Gauge(
            "creditstream_notifier_open_deliveries",
            "Deliveries that are pending or retrying, of this process's partitions",
            registry=registry,
        )
        self.running = Gauge(
            "creditstream_notifier_running_attempts", "Tries that have begun and not ended", registry=registry
        )
        self.requests_refused = Counter(
            "creditstream_notifier_requests_refused",
            "Tests and redeliveries without a good signature, or too old",
            registry=registry,
        )
        self.settings_refused = Gauge(
            "creditstream_notifier_settings_records_refused",
            "Records on the settings' topic without a good signature",
            registry=registry,
        )
