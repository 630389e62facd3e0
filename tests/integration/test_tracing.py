"""One trace from a service to ClickHouse: real processes, and a real receiver of OTLP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest

pytest.importorskip("opentelemetry.sdk")  # The extra `otel`.

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline.client import ClientOptions, UsageClient, image_generation
from pipeline.kafka import headers_of, producer, topic_name
from pipeline.reconcile.topics import Log
from pipeline.settings import LogSettings, Settings, TracingSettings
from pipeline.tracing import HEADER
from schemas.topics import ACCOUNT_EVENTS, METERED_RECORDS
from tests.gateways import CLOUD_EVENT, Deployment, deployed, event
from tests.stack import wait_until

pytestmark = pytest.mark.integration
SECONDS_MAX = 30
ASKED, BAD = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319d"
SPAN = "b7ad6b7169203331"


class Span(NamedTuple):
    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: list[str]
    """Ids of traces."""


class Collector:
    """What was sent to `/v1/traces`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, body: bytes) -> None:
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {entry.key: entry.value.string_value for entry in each.resource.attributes}
            self.spans += [
                Span(
                    named["service.name"].removeprefix("creditstream-"),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    [link.trace_id.hex() for link in span.links],
                )
                for scope in each.scope_spans
                for span in scope.spans
            ]

    def of(self, trace: str) -> dict[tuple[str, str], Span]:
        return {(each.service, each.name): each for each in self.spans if each.trace == trace}

    def batches(self, trace: str) -> set[tuple[str, str]]:
        return {(each.service, each.name) for each in self.spans if trace in each.links}


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector = Collector()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def record_in_a_trace(settings: Settings, account: str) -> str:
    """What a service does that has an SDK of its own; the id of its trace."""
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    options = ClientOptions(source="/services/images", kafka=settings.kafka)
    usage = image_generation(quality="medium", width=1024, height=1024, images=1)
    with UsageClient(options) as client:
        with provider.get_tracer("images").start_as_current_span("generate"):
            client.record(account, usage)
        client.record(account, usage)  # Outside of any trace.
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def traces_of_metered(settings: Settings) -> list[str]:
    """The traces that metered records carry; empty where there is none."""
    log = Log(settings.kafka)
    try:
        messages = [
            each
            for number in range(settings.kafka.partitions)
            for each in log.messages(METERED_RECORDS, number)
        ]
    finally:
        log.close()
    headers = [dict(headers_of(each)) for each in messages]
    return sorted((each.get(HEADER) or b"").decode()[3:35] for each in headers)


def lines_of(there: Deployment, name: str) -> list[dict[str, object]]:
    """The log of a program, every line of which is JSON."""
    return [json.loads(line) for line in there.log(name).splitlines()]


def test_one_trace_from_producer_to_sink(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"partitions": 1}),
            "log": LogSettings(format="json"),
            "tracing": TracingSettings(enabled=True),
        }
    )
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with collecting() as (collector, url):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        with deployed(traced) as there:
            account = there.open("traced")
            of_client = record_in_a_trace(traced, account)
            with there.client() as client:
                headers = {**CLOUD_EVENT, HEADER: f"00-{ASKED}-{SPAN}-01"}
                said = client.post("/v1/events?wait=outcome", json=event(account), headers=headers)
                assert said.status_code == 200, said.text
            sender = producer(traced.kafka)
            sender.produce(
                topic_name(traced.kafka, ACCOUNT_EVENTS),
                b"{}",
                account.encode(),
                headers=[(HEADER, f"00-{BAD}-{SPAN}-01".encode())],
            )
            assert sender.flush(SECONDS_MAX) == 0

            def is_whole() -> bool:
                ways = (collector.of(each) for each in (of_client, ASKED, BAD))
                return all(("sink", "store") in each for each in ways)

            wait_until("the traces are whole", is_whole, SECONDS_MAX)
            assert traces_of_metered(traced) == sorted(["", of_client, ASKED])

    meter, store = (collector.of(of_client)[each] for each in (("worker", "meter"), ("sink", "store")))
    assert store.parent == meter.id
    assert set(collector.of(of_client)) == {("worker", "meter"), ("sink", "store")}
    assert collector.batches(of_client) == {("worker", "meter batch"), ("sink", "store batch")}

    asked = collector.of(ASKED)
    assert asked["gateway", "publish"].parent == SPAN
    assert asked["worker", "meter"].parent == asked["gateway", "publish"].id
    assert asked["sink", "store"].parent == asked["worker", "meter"].id

    (letter,) = [each for each in lines_of(there, "worker") if each["message"] == "a dead letter"]
    assert {name: letter[name] for name in ("account", "trace_id", "partition", "reason", "level")} == {
        "account": account,
        "trace_id": BAD,
        "partition": 0,
        "reason": "invalid_envelope",
        "level": "warning",
    }
    assert lines_of(there, "gateway")
    assert lines_of(there, "sink")
