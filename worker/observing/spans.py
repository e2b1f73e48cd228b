"""Spans of OpenTelemetry: of workflows and activities, of rounds, and of what workflows are told of these."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio import activity
from temporalio.client import Client, OutboundInterceptor, SignalWorkflowInput
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.answers import Notice
from activities.store.steps import RoundSpan, RoundTimes
from corral import wire
from worker.observing.subjects import subject_of_activity
from worker.observing.traces import Traces
from worker.settings import Settings
from workflows.contracts import Signal

SERVICE = "corral-worker"
MOST_LINKS = 128
"""Of a round, to as many traces: OpenTelemetry drops what is beyond."""

_W3C = TraceContextTextMapPropagator()
_TRACEPARENT = "traceparent"


def tracer_provider(settings: Settings) -> TracerProvider:
    """Makes spans of this worker. Of traces that begin elsewhere those are kept that are kept there."""
    resource = Resource.create({"service.name": SERVICE, "corral.pool": settings.pool})
    return TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(settings.traces_ratio), shutdown_on_exit=False)


class Spans(Traces):
    """Records all spans of a worker."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(SERVICE)
        self._tracing = TracingInterceptor(self._tracer)
        self.interceptors = (self._tracing, NameSpans())

    def signalling(self, client: Client) -> Client:
        """The same client, whose signals tell in which span they were sent, if in any."""
        config = client.config()
        config["interceptors"] = [*config["interceptors"], PassOn(self._tracing)]
        return Client(**config)

    def submitted_in(self) -> str | None:
        """The span in which the workload's workflow began the activity that runs here; none where that is not kept."""
        span = get_current_span()
        parent = span.parent if isinstance(span, ReadableSpan) else None
        return written(parent) if parent is not None else None

    def round(self, trigger: str) -> RoundSpan:
        """Begin a trace of its own for a round; one that is never ended is not recorded."""
        return _Round(self._tracer.start_span(f"Round:{trigger}", Context()))

    @contextmanager
    def telling(self, notice: Notice) -> Iterator[None]:
        """Record the signal in the workload's trace, with a link to the round; nothing of workloads without a trace."""
        if notice.trace is None:
            yield
            return
        workload = notice.standing.workload
        with self._tracer.start_as_current_span(
            f"SignalWorkflow:{Signal.STANDING}",
            set_span_in_context(NonRecordingSpan(read(notice.trace)), Context()),
            SpanKind.CLIENT,
            {"temporalWorkflowID": wire.workload_workflow_id(workload), "corral.workload": workload},
            [Link(read(notice.round))] if notice.round else [],
        ):
            yield


class _Round(RoundSpan):
    """Links to the traces of those whom the round concerned, which nobody knows before its end."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.place = written(context) if context.trace_flags.sampled else None

    def end(self, times: RoundTimes, concerned: Sequence[str]) -> None:
        for trace in concerned[:MOST_LINKS]:
            self._span.add_link(read(trace))
        self._span.set_attributes(
            {
                "corral.round.tries": times.tries,
                "corral.round.traces": len(concerned),
                "corral.round.traces_not_linked": max(0, len(concerned) - MOST_LINKS),
            }
        )
        self._span.end()


def written(span: SpanContext) -> str:
    """A place in a trace as a W3C traceparent."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(NonRecordingSpan(span), Context()))
    return carrier[_TRACEPARENT]


def read(traceparent: str) -> SpanContext:
    """The place in a trace that a W3C traceparent tells."""
    return get_current_span(_W3C.extract({_TRACEPARENT: traceparent}, Context())).get_span_context()


class PassOn(ClientInterceptor):
    """Lets the workflow that is signalled know the span in which that is done, as Temporal's own interceptor would."""

    def __init__(self, tracing: TracingInterceptor) -> None:
        self._tracing = tracing

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """Write a header on signals that are sent in a span."""
        return _PassOn(next, self._tracing)


class _PassOn(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, tracing: TracingInterceptor) -> None:
        super().__init__(next)
        self._tracing = tracing

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        carrier: dict[str, str] = {}
        self._tracing.text_map_propagator.inject(carrier)
        if carrier:
            (payload,) = self._tracing.payload_converter.to_payloads([carrier])
            input.headers = {**input.headers, self._tracing.header_key: payload}
        await super().signal_workflow(input)


class NameSpans(Interceptor):
    """Writes workload and attempt on the spans of activities."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come after whoever begins the span."""
        return _NameSpan(next)


class _NameSpan(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        subject = subject_of_activity(info.activity_type, input.args, info.workflow_id)
        get_current_span().set_attributes({f"corral.{name}": value for name, value in subject.items()})
        return await super().execute_activity(input)
