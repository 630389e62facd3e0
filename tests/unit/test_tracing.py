"""What follows a trace, and what does not; the whole way is `integration/test_tracing.py`."""

import sys
from collections.abc import Iterator

import orjson
import pytest

pytest.importorskip("opentelemetry.sdk")  # The extra `otel`.

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline import tracing
from pipeline.tracing import HEADER, NO_TRACES, TRACES_MAX, of_batch
from tests.builders import Partition, open_account, record, usage

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED: list[tuple[str, str | bytes | None]] = [(HEADER, f"00-{TRACE}-{SPAN}-01".encode())]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing._Program, "tracer", provider.get_tracer("tests"))
    yield exporter
    provider.shutdown()


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def test_without_the_setting_nothing_is_followed() -> None:
    assert of_batch("meter", 0) is NO_TRACES
    NO_TRACES.take("topic", 0, SAMPLED)
    assert NO_TRACES.is_empty
    assert NO_TRACES.header_of(b'"partition":0,"offset":0,"partition_seq":1') is None


def test_a_sampled_record_has_a_span_of_its_own_trace_and_the_batch_links_to_it(
    spans: InMemorySpanExporter,
) -> None:
    traces = of_batch("meter", 3)
    traces.take("metering.account-events.v1", 7, SAMPLED)
    assert traces.trace_id_of(7) == TRACE
    traces.end()
    of_record, of_all = spans.get_finished_spans()
    assert (trace_of(of_record), of_record.name) == (TRACE, "meter")
    assert of_record.attributes is not None
    assert of_record.attributes["messaging.kafka.offset"] == 7
    assert trace_of(of_all) != TRACE
    (link,) = of_all.links
    assert f"{link.context.span_id:016x}" == SPAN


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"1",
        b"\xff1",
        b"00-0-0-01",
        f"00-{TRACE}-{SPAN}-00".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
    ],
)
def test_what_is_not_sampled_or_cannot_be_read_has_none(
    spans: InMemorySpanExporter, value: bytes | None
) -> None:
    traces = of_batch("meter", 0)
    traces.take("topic", 0, [("content-type", b"1"), (HEADER, value)])
    traces.end()
    assert not spans.get_finished_spans()


def test_producers_do_not_choose_how_much_is_followed(spans: InMemorySpanExporter) -> None:
    traces = of_batch("meter", 0)
    for offset in range(TRACES_MAX + 50):
        traces.take("topic", offset, SAMPLED)
    traces.end()
    assert len(spans.get_finished_spans()) == TRACES_MAX + 1


def test_the_trace_goes_on_with_the_outcome_of_its_record_only(spans: InMemorySpanExporter) -> None:
    del spans
    partition = Partition()
    partition.fold(open_account())
    lie = '"partition":0,"offset":2,"partition_seq":3'
    logged = [record(usage(event_id=f"{lie}{offset}"), offset=offset) for offset in (1, 2, 3)]
    logged[1] = logged[1]._replace(headers=[(HEADER, f"00-{TRACE}-{SPAN}-01".encode())])
    traces = of_batch("meter", 0)
    traces.take_all(logged)
    outcomes = [each for each in partition.run(logged).records if each.topic == "metering.metered-records.v1"]
    found = {orjson.loads(each.value)["offset"]: traces.header_of(each.value) for each in outcomes}
    assert found[1] is None
    assert found[3] is None
    assert found[2] is not None
    [(name, value)] = found[2]
    assert name == HEADER
    assert isinstance(value, bytes)
    assert value.decode().split("-")[1] == TRACE
    assert value.decode().split("-")[2] != SPAN, "expected the worker's span as the parent of what follows"


def test_the_current_trace_is_what_a_record_is_sent_with(spans: InMemorySpanExporter) -> None:
    assert tracing.traceparent() is None
    assert tracing.current_trace_id() == ""
    tracer = TracerProvider().get_tracer("a service")
    with tracer.start_as_current_span("work") as span:
        context = span.get_span_context()
        expected = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        assert tracing.traceparent() == expected.encode()
    assert not spans.get_finished_spans()


def test_a_request_goes_on_with_its_callers_trace(spans: InMemorySpanExporter) -> None:
    with tracing.continued(f"00-{TRACE}-{SPAN}-01"), tracing.publishing("events"):
        assert tracing.current_trace_id() == TRACE
    assert tracing.traceparent() is None
    (span,) = spans.get_finished_spans()
    assert (trace_of(span), span.name) == (TRACE, "publish")


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_request_with_no_readable_trace_is_answered(spans: InMemorySpanExporter, header: str) -> None:
    with tracing.continued(header), tracing.publishing("events"):
        assert tracing.current_trace_id() not in {"", TRACE}
    assert len(spans.get_finished_spans()) == 1


def test_without_the_extra_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ValueError, match=r"expected the extra `otel`"):
        tracing.begin("worker", enabled=True)
    tracing.begin("worker", enabled=False)
