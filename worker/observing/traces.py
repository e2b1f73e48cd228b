"""Traces: what a worker records of workloads' ways, in the traces of those who submit them. Off, nothing of this is loaded."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from temporalio.client import Client
from temporalio.worker import Interceptor

from activities.answers import Notice
from activities.store.steps import RoundSpan
from worker.settings import Settings


class Traces:
    """Records nothing. A place in a trace is written as a W3C traceparent."""

    interceptors: Sequence[Interceptor] = ()
    """Of workers: they record what workflows and activities do."""

    def signalling(self, client: Client) -> Client:
        """The same client, whose signals tell in which trace they were sent."""
        return client

    def submitted_in(self) -> str | None:
        """The trace of the workload whose activity runs where this is called, if it was submitted in one that is kept."""
        return None

    def round(self, trigger: str) -> RoundSpan:
        """Begin the span of a round."""
        return RoundSpan()

    def telling(self, notice: Notice) -> AbstractContextManager[object]:
        """Record, in the trace of the workload, that its workflow is told while the context lasts."""
        return nullcontext()


UNTRACED = Traces()


@contextmanager
def traced(settings: Settings) -> Iterator[Traces]:
    """What records spans, which are sent until the context is left; nothing is recorded when the settings ask for none."""
    if settings.traces_endpoint is None:
        yield UNTRACED
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from worker.observing.spans import Spans, tracer_provider

    provider = tracer_provider(settings)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.traces_endpoint)))
    try:
        yield Spans(provider)
    finally:
        provider.shutdown()
