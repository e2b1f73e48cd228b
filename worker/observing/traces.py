"""Traces: spans of workflows and activities that continue the trace of whoever submits. Off, nothing of this is loaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from worker.observing.subjects import subject_of_activity
from worker.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "corral-worker"


@contextmanager
def traced(settings: Settings) -> Iterator[Sequence[Interceptor]]:
    """Interceptors that record spans, which are sent until the context is left; none when the settings ask for none."""
    if settings.traces_endpoint is None:
        yield ()
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = tracer_provider(settings)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.traces_endpoint)))
    try:
        yield span_interceptors(provider)
    finally:
        provider.shutdown()


def tracer_provider(settings: Settings) -> "TracerProvider":
    """Makes spans of this worker. Of traces that begin elsewhere those are kept that are kept there."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    resource = Resource.create({"service.name": SERVICE, "corral.pool": settings.pool})
    return TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(settings.traces_ratio), shutdown_on_exit=False)


def span_interceptors(provider: "TracerProvider") -> Sequence[Interceptor]:
    """Interceptors for workers: the spans are Temporal's, and name what they are about."""
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return TracingInterceptor(provider.get_tracer(SERVICE)), NameSpans()


class NameSpans(Interceptor):
    """Writes workload and attempt on the spans of activities."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Come after whoever begins the span."""
        return _NameSpan(next)


class _NameSpan(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        from opentelemetry.trace import get_current_span

        info = activity.info()
        subject = subject_of_activity(info.activity_type, input.args, info.workflow_id)
        get_current_span().set_attributes({f"corral.{name}": value for name, value in subject.items()})
        return await super().execute_activity(input)
