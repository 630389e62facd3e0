"""What `/metrics` says. No label names an account or a key: their number has no bound."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry for each application, so that tests may have several."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "creditstream_gateway_requests",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "creditstream_gateway_request_seconds",
            "From the head of a request to the head of its answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.events = Counter(
            "creditstream_gateway_events", "Events by verdict and code", ["status", "code"], registry=registry
        )
        self.commands = Counter(
            "creditstream_gateway_commands",
            "Commands by name and answer",
            ["command", "answer"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "creditstream_gateway_in_flight_records",
            "Records that wait for Kafka's acknowledgement",
            registry=registry,
        )
        self.balances = Gauge(
            "creditstream_gateway_balances", "Accounts whose balance is in memory", registry=registry
        )
        self.keys_refused = Gauge(
            "creditstream_gateway_key_records_refused",
            "Records on the keys' topic without a good signature",
            registry=registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
