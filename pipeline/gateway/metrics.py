"""What `/metrics` says. No label names an account or a key: their number has no bound."""

from typing import Final

from prometheus_client import generate_latest

from pipeline.telemetry import Register

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One registry for each application, so that tests may have several."""

    def __init__(self) -> None:
        of = Register()
        self.registry = of.registry
        self.requests = of.counter(
            "gateway_requests", "Requests by route and status", "method", "route", "status"
        )
        self.seconds = of.histogram(
            "gateway_request_seconds",
            "From the head of a request to the head of its answer",
            _SECONDS,
            "method",
            "route",
        )
        self.events = of.counter("gateway_events", "Events by verdict and code", "status", "code")
        self.commands = of.counter("gateway_commands", "Commands by name and answer", "command", "answer")
        self.in_flight = of.gauge(
            "gateway_in_flight_records", "Records that wait for Kafka's acknowledgement"
        )
        self.balances = of.gauge("gateway_balances", "Accounts whose balance is in memory")
        self.keys_refused = of.gauge(
            "gateway_key_records_refused", "Records on the keys' topic without a good signature"
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
