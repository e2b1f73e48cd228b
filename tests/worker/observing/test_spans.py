"""What is recorded of rounds and of telling workflows, and how it is tied to the traces of workloads."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, get_current_span, set_span_in_context

from activities.answers import Notice, Standing
from activities.store.steps import RoundTimes
from corral.api import State
from worker.observing.spans import MOST_LINKS, Spans, read, tracer_provider, written
from worker.settings import Settings

SUBMITTED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DECIDED = "00-1111111111111111111111111111aaaa-222222222222bbbb-01"


@dataclass(frozen=True)
class Recorded:
    """A worker's spans, which end in memory."""

    provider: TracerProvider
    finished: InMemorySpanExporter

    @property
    def spans(self) -> Spans:
        return Spans(self.provider)

    @property
    def only(self) -> ReadableSpan:
        (span,) = self.finished.get_finished_spans()
        return span


def recording(settings: Settings) -> Recorded:
    provider, finished = tracer_provider(settings), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    return Recorded(provider, finished)


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = recording(Settings())
    yield recorded
    recorded.provider.shutdown()


def linked(span: ReadableSpan) -> Sequence[str]:
    return [written(link.context) for link in span.links]


def a_trace(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def a_notice(trace: str | None, round: str | None = None) -> Notice:
    return Notice(1, Standing("train", 2, State.RESERVED, 1), trace, round)


def test_a_round_is_a_trace_of_its_own_that_links_to_those_whom_it_concerned(recorded: Recorded) -> None:
    round = recorded.spans.round("planner")
    between = time.time_ns()
    round.end(RoundTimes("planner", tries=2), [SUBMITTED, a_trace(7)])

    span = recorded.only
    assert (span.name, span.parent) == ("Round:planner", None)
    assert linked(span) == [SUBMITTED, a_trace(7)]
    assert span.context is not None
    assert round.place == written(span.context)
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.start_time <= between <= span.end_time
    assert dict(span.attributes or {}) == {
        "corral.round.tries": 2,
        "corral.round.traces": 2,
        "corral.round.traces_not_linked": 0,
    }


def test_a_round_about_many_links_to_the_first_and_says_how_many_are_left_out(recorded: Recorded) -> None:
    traces = [a_trace(number) for number in range(1, 2_001)]

    recorded.spans.round("planner").end(RoundTimes("planner"), traces)

    assert linked(recorded.only) == traces[:MOST_LINKS]
    assert recorded.only.dropped_links == 0
    attributes = dict(recorded.only.attributes or {})
    assert attributes["corral.round.traces"] == 2_000
    assert attributes["corral.round.traces_not_linked"] == 2_000 - MOST_LINKS


def test_of_rounds_no_more_is_kept_than_the_settings_say() -> None:
    recorded = recording(Settings(traces_ratio=0))
    round = recorded.spans.round("planner")
    round.end(RoundTimes("planner"), [SUBMITTED])
    assert round.place is None
    assert recorded.finished.get_finished_spans() == ()


def test_a_workload_is_told_in_its_own_trace_whichever_the_worker_is_in(recorded: Recorded) -> None:
    spans = recorded.spans
    tracer = recorded.provider.get_tracer("another")
    with tracer.start_as_current_span("something else"), spans.telling(a_notice(SUBMITTED, DECIDED)):
        assert get_current_span().get_span_context().trace_id == read(SUBMITTED).trace_id

    told = next(span for span in recorded.finished.get_finished_spans() if span.name == "SignalWorkflow:standing")
    assert told.parent == read(SUBMITTED)
    assert linked(told) == [DECIDED]
    assert (told.attributes or {})["corral.workload"] == "train"


def test_a_round_that_concerned_no_trace_is_not_recorded(recorded: Recorded) -> None:
    recorded.spans.round("planner")
    recorded.spans.round("admission").end(RoundTimes("admission"), [SUBMITTED])
    assert recorded.only.name == "Round:admission"


def test_what_no_round_decided_has_the_trace_and_no_link(recorded: Recorded) -> None:
    with recorded.spans.telling(a_notice(SUBMITTED)):
        pass
    assert (recorded.only.parent, recorded.only.links) == (read(SUBMITTED), ())


def test_nothing_is_recorded_of_telling_a_workload_without_a_trace(recorded: Recorded) -> None:
    with recorded.spans.telling(a_notice(None, DECIDED)):
        assert not get_current_span().get_span_context().is_valid
    assert recorded.finished.get_finished_spans() == ()


def test_workloads_told_at_once_do_not_mix_up_their_traces(recorded: Recorded) -> None:
    spans, traces = recorded.spans, [a_trace(number) for number in range(1, 9)]

    async def tell(trace: str) -> int:
        with spans.telling(a_notice(trace)):
            await asyncio.sleep(0)
            return get_current_span().get_span_context().trace_id

    async def all_at_once() -> Sequence[int]:
        return await asyncio.gather(*map(tell, traces))

    assert asyncio.run(all_at_once()) == [read(trace).trace_id for trace in traces]


def test_a_workload_was_submitted_where_its_workflow_began_the_activity(recorded: Recorded) -> None:
    spans, tracer = recorded.spans, recorded.provider.get_tracer("workflow")
    assert spans.submitted_in() is None
    with tracer.start_as_current_span("RunActivity:admission.admit"):
        assert spans.submitted_in() is None
    submitted = set_span_in_context(NonRecordingSpan(read(SUBMITTED)))
    with tracer.start_as_current_span("RunActivity:admission.admit", submitted):
        assert spans.submitted_in() == SUBMITTED
    elsewhere = TracerProvider(sampler=ALWAYS_OFF).get_tracer("service")
    with elsewhere.start_as_current_span("not kept"), tracer.start_as_current_span("RunActivity:admission.admit"):
        assert spans.submitted_in() is None
