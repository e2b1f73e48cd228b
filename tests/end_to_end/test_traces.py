"""One trace tells a workload's way from whoever submits it to its place."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.contrib.opentelemetry import TracingInterceptor

from corral.api import ReplicaGroup, State, Target
from corral.client import Corral
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually, running_pool, working_here
from tests.servers import PostgresServer
from worker.observing.spans import Spans, tracer_provider

SUBMITTED = "StartWorkflow:WorkloadLifecycle"
BOUND = "RunActivity:placement.bind"


@dataclass(frozen=True)
class Traced:
    """A pool whose worker keeps its spans in memory, and a service that traces as well."""

    pool: LivePool
    service: Corral
    spans: InMemorySpanExporter

    async def once_bound(self, workload: str) -> Sequence[ReadableSpan]:
        """The spans of a workload once that of its binding is among them: the record says that it runs a moment earlier."""

        async def spans() -> Sequence[ReadableSpan]:
            found = self.of(workload)
            return found if BOUND in {span.name for span in found} else ()

        return await eventually(spans, f"{workload} is bound")

    def of(self, workload: str) -> Sequence[ReadableSpan]:
        """The spans of all traces that a workload has a part in, as far as they are over."""
        finished = self.spans.get_finished_spans()
        traces = {
            trace_of(span) for span in finished if (span.attributes or {}).get("temporalWorkflowID") == f"workload/{workload}"
        }
        return [span for span in finished if trace_of(span) in traces]

    def rounds_about(self, trace: int) -> Mapping[int, ReadableSpan]:
        """By their own traces, the spans of rounds that link to one."""
        finished = self.spans.get_finished_spans()
        return {trace_of(span): span for span in finished if span.name.startswith("Round:") and trace in linked(span)}


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def parents(spans: Sequence[ReadableSpan]) -> Mapping[str, str | None]:
    """By the name of each span, that of its parent."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    return {span.name: names[span.parent.span_id] if span.parent else None for span in spans}


def linked(span: ReadableSpan) -> tuple[int, ...]:
    """The traces to which a span links."""
    return tuple(link.context.trace_id for link in span.links)


@pytest.fixture(scope="module")
async def traced(postgres: PostgresServer, temporal: str) -> AsyncIterator[Traced]:
    """A worker in this process, on real servers."""
    async with running_pool(postgres, temporal, "traced") as pool:
        provider, spans = tracer_provider(pool.settings), InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        tracing = TracingInterceptor(provider.get_tracer("service"))
        service = await Corral.connect(temporal, pool="traced", interceptors=[tracing])
        async with working_here(pool, traces=Spans(provider)):
            yield Traced(pool, service, spans)
        provider.shutdown()


async def test_a_workload_is_one_trace_from_its_submission_to_its_place(traced: Traced) -> None:
    await traced.service.submit(a_workload("traced-at-once", parameters=behaving(1e6)))
    await traced.pool.until("traced-at-once", State.RUNNING)

    spans = await traced.once_bound("traced-at-once")

    assert len({trace_of(span) for span in spans}) == 1
    above = parents(spans)
    assert above[SUBMITTED] is None
    assert above["RunWorkflow:WorkloadLifecycle"] == SUBMITTED
    assert above["StartActivity:admission.admit"] == SUBMITTED
    assert above["RunActivity:admission.admit"] == "StartActivity:admission.admit"
    assert above["StartActivity:placement.bind"] == SUBMITTED
    assert above[BOUND] == "StartActivity:placement.bind"


async def test_news_of_a_workload_that_waits_is_part_of_its_trace_and_links_to_the_round(traced: Traced) -> None:
    all_there_is = {"targets": (Target(skus=("l4",)),), "groups": (ReplicaGroup(accelerators=4),), "parameters": behaving(1e6)}
    await traced.service.submit(a_workload("traced-before", **all_there_is))
    await traced.pool.until("traced-before", State.RUNNING)
    await traced.service.submit(a_workload("traced-waits", **all_there_is))
    await traced.pool.until("traced-waits", State.WAITING)
    await traced.service.cancel("traced-before")
    await traced.pool.until("traced-waits", State.RUNNING)

    spans = await traced.once_bound("traced-waits")
    (trace,) = {trace_of(span) for span in spans}
    above = parents(spans)
    assert above["SignalWorkflow:standing"] == "StartActivity:admission.admit"
    assert above["HandleSignal:standing"] == SUBMITTED
    assert above[BOUND] == "StartActivity:placement.bind"
    assert {linked(span) for span in spans if span.name == "HandleSignal:standing"} == {(trace,)}

    rounds = traced.rounds_about(trace)
    assert {span.name for span in rounds.values()} == {"Round:admission", "Round:planner"}
    told_of = [each for span in spans if span.name == "SignalWorkflow:standing" for each in linked(span)]
    assert told_of
    assert {rounds[each].name for each in told_of} == {"Round:planner"}


async def test_spans_name_workload_and_attempt(traced: Traced) -> None:
    await traced.service.submit(a_workload("traced-by-name", parameters=behaving(1e6)))
    await traced.pool.until("traced-by-name", State.RUNNING)

    named = {span.name: dict(span.attributes or {}) for span in await traced.once_bound("traced-by-name")}

    assert named["RunActivity:admission.admit"]["corral.workload"] == "traced-by-name"
    assert named[BOUND]["corral.attempt"] == "traced-by-name.1"


async def test_two_workloads_are_two_traces(traced: Traced) -> None:
    for id in ("traced-first", "traced-second"):
        await traced.service.submit(a_workload(id, parameters=behaving(1e6)))
    for id in ("traced-first", "traced-second"):
        await traced.pool.until(id, State.RUNNING)

    first, second = traced.of("traced-first"), traced.of("traced-second")

    assert first
    assert second
    assert not {trace_of(span) for span in first} & {trace_of(span) for span in second}
