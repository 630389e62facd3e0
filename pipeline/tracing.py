"""One trace from producer to sink (OpenTelemetry), carried by the Kafka header `traceparent` of W3C Trace Context.

All of it is here. A service's client only passes on the trace in which the service is. Gateway, worker and sink make
spans of their own when `tracing.enabled` is set, which needs the extra `otel`; where spans go and how many, the SDK's
own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`). Switched off, no record's headers are looked
at. The core knows nothing of it, and no record has another key, value or timestamp because of it.
"""

import re
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeAlias

from schemas.topics import ACCOUNT_EVENTS

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

HEADER: Final = "traceparent"
TRACES_MAX: Final = 100
"""Records of one batch or block whose traces go on. Producers choose what is sampled; they cannot choose our costs."""
FLUSH_MS_MAX: Final = 1000
_ODD: Final = frozenset(b"13579bdf")
"""Last digits of a `traceparent` whose trace is sampled."""
_PLACE: Final = re.compile(rb'"partition":\d+,"offset":(\d+),"partition_seq":')
"""Of the record in the log, in the bytes of its outcome; what producers wrote is escaped or comes after it."""

Headers: TypeAlias = list[tuple[str, str | bytes | None]]


class HasHeaders(Protocol):
    """A record of the log, as far as it is looked at."""

    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class _Program:
    """What makes this process's spans; None as long as tracing is off."""

    tracer: ClassVar["Tracer | None"] = None
    provider: ClassVar[Any] = None


# Of the trace in which this code runs: for services, whose SDK is theirs, and for our own programs.


def traceparent() -> bytes | None:
    """The current trace as a header's value; None outside of any. Nobody has begun one where the API is not loaded."""
    context = _current()
    if context is None:
        return None
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def current_trace_id() -> str:
    """As 32 hex digits; empty outside of any trace."""
    context = _current()
    return "" if context is None else f"{context.trace_id:032x}"


def _current() -> "SpanContext | None":
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:
        return None
    context: SpanContext = current_span().get_span_context()
    return context if context.is_valid else None


def with_trace(headers: Headers, value: bytes | None) -> Headers:
    """The headers of a record, and its trace if it has one."""
    return headers if value is None else [*headers, (HEADER, value)]


# Of our programs.


def begin(program: str, *, enabled: bool) -> None:
    """Make spans from now on, as the service `creditstream-<program>`. Raises ValueError without the extra `otel`."""
    if not enabled:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(
            f"expected the extra `otel` of this package, since tracing.enabled is set; got: {error}. "
            "Remedy: python -m pip install --require-hashes -r deploy/lock/otel.txt"
        ) from error
    resource = Resource.create({"service.name": f"creditstream-{program}"})
    # Not the global provider: libraries that we use would begin to make spans too.
    _Program.provider = TracerProvider(resource=resource)
    _Program.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _Program.tracer = _Program.provider.get_tracer("creditstream")


def is_on() -> bool:
    return _Program.tracer is not None


def flush() -> None:
    """Send what was made, for so long at most; a process that ends by itself does so anyway."""
    if _Program.provider is not None:
        _Program.provider.force_flush(FLUSH_MS_MAX)


@contextmanager
def continued(header: str) -> Generator[None, None, None]:
    """The trace of whoever asks, by the header of the request, is the current one in the block."""
    if _Program.tracer is None or not header:
        yield
        return
    from opentelemetry.context import attach, detach  # noqa: PLC0415  (only where tracing is on)

    token = attach(_extracted(header))
    try:
        yield
    finally:
        detach(token)


@contextmanager
def publishing(topic: str) -> Generator[None, None, None]:
    """A span for what is published in the block, within the trace of whoever asked for it."""
    if _Program.tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415  (only where tracing is on)

    attributes = {"messaging.system": "kafka", "messaging.destination.name": topic}
    with _Program.tracer.start_as_current_span("publish", kind=SpanKind.PRODUCER, attributes=attributes):
        yield


class Traces:
    """Of the records of one batch. This one is for a program that makes no spans; see `of_batch`."""

    def take(self, topic: str, offset: int, headers: Iterable[tuple[str, str | bytes | None]]) -> None:
        """A record comes in: if its trace is sampled, it has a span from now until `end`."""

    def take_all(self, records: Iterable[HasHeaders]) -> None:
        """The same for records of the input log."""

    def header_of(self, value: bytes) -> Headers | None:
        """What a record of this outcome is to have: the trace of the record of the log whose place it names."""

    def trace_id_of(self, offset: int) -> str:
        """Of a record of the input log, as 32 hex digits; empty when it is in no sampled trace."""
        del offset
        return ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the batch is in a sampled trace: nearly always."""
        return True

    def end(self) -> None:
        """What was decided is durable."""


NO_TRACES: Final = Traces()


def of_batch(step: str, partition: int) -> Traces:
    """What follows the traces of one batch through a step of ours, `meter` or `store`."""
    return NO_TRACES if _Program.tracer is None else _SampledTraces(_Program.tracer, step, partition)


class _SampledTraces(Traces):
    """A span for each of at most `TRACES_MAX` records, within its trace; and one for the batch, which links to them."""

    def __init__(self, tracer: "Tracer", step: str, partition: int) -> None:
        self._tracer = tracer
        self._step = step
        self._attributes = {"messaging.system": "kafka", "messaging.destination.partition.id": str(partition)}
        self._batch: Span | None = None
        self._spans: dict[tuple[str, int], Span] = {}

    def take(self, topic: str, offset: int, headers: Iterable[tuple[str, str | bytes | None]]) -> None:
        parent = None if len(self._spans) >= TRACES_MAX else _parent(headers)
        if parent is None:
            return
        from opentelemetry.context import Context  # noqa: PLC0415  (only where a trace has come)
        from opentelemetry.trace import SpanKind, get_current_span  # noqa: PLC0415

        if self._batch is None:
            self._batch = self._tracer.start_span(
                f"{self._step} batch", Context(), SpanKind.CONSUMER, self._attributes
            )
        self._batch.add_link(get_current_span(parent).get_span_context())
        span = self._tracer.start_span(self._step, parent, SpanKind.CONSUMER, self._attributes)
        span.set_attribute("messaging.destination.name", topic)
        span.set_attribute("messaging.kafka.offset", offset)
        self._spans[topic, offset] = span

    def take_all(self, records: Iterable[HasHeaders]) -> None:
        for record in records:
            if record.headers:
                self.take(ACCOUNT_EVENTS, record.offset, record.headers)

    def header_of(self, value: bytes) -> Headers | None:
        found = _PLACE.search(value)
        span = None if found is None else self._spans.get((ACCOUNT_EVENTS, int(found[1])))
        if span is None:
            return None
        context = span.get_span_context()
        return [(HEADER, b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags))]

    def trace_id_of(self, offset: int) -> str:
        span = self._spans.get((ACCOUNT_EVENTS, offset))
        return "" if span is None else f"{span.get_span_context().trace_id:032x}"

    @property
    def is_empty(self) -> bool:
        return not self._spans

    def end(self) -> None:
        for span in self._spans.values():
            span.end()
        if self._batch is not None:
            self._batch.set_attribute("messaging.batch.message_count", len(self._spans))
            self._batch.end()


def _parent(headers: Iterable[tuple[str, str | bytes | None]]) -> "Context | None":
    """The context in a record's header, if there is one and its trace is sampled."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    for name, value in headers:
        if name == HEADER and isinstance(value, bytes) and value[-1:] and value[-1] in _ODD:
            context = _extracted(value.decode("ascii", "replace"))
            return context if get_current_span(context).get_span_context().is_valid else None
    return None


def _extracted(header: str) -> "Context":
    """Empty when the header says nothing that can be read."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({HEADER: header})
