"""The report of a run: frozen models that are the same in JSON, on the page and in the terminal.

Times are minutes of the pool's time since the start where their name ends in `_minutes`; amounts are accelerators.
"""

from typing import Literal

from pydantic import AwareDatetime

from corral.api import Model, Outcome, SlaTier, State


def counted(number: int, thing: str) -> str:
    """A number of things: `1 problem`, `2 problems`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Phase(Model):
    """One part of the run, in seconds of the wall."""

    name: str
    seconds: float


class Verdict(Model):
    """Whether all checks held, and what did not."""

    checks: int
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Nothing was found."""
        return not self.problems

    @property
    def in_words(self) -> str:
        """How many problems were found, and by how many checks."""
        return f"{counted(len(self.problems), 'problem')} found by {self.checks} checks"


class Totals(Model):
    """The run in a few numbers; a round is timed without its transaction."""

    workloads: int
    states: dict[State, int]
    attempts: int
    accelerators: int
    largest_gang: float
    accelerator_hours: float
    lost_accelerator_hours: float
    rounds: int
    round_p50_milliseconds: float
    round_p99_milliseconds: float
    prompt_starts: int
    prompt_start_p50_seconds: float | None
    """From submission to running on the wall, of workloads that got their place on arrival."""


class TierReport(Model):
    """What a tier was promised and got. Waits are from submission to the first start, of work that nobody held."""

    tier: SlaTier
    workloads: int
    started: int
    promised_fraction: float
    achieved_fraction: float | None
    wait_p50_minutes: float | None
    wait_p90_minutes: float | None
    wait_max_minutes: float | None
    preemptions: int
    lost_accelerator_hours: float
    accelerator_hours: float
    waits_minutes: tuple[float, ...]

    @property
    def is_short(self) -> bool:
        """It got less than it was promised."""
        return self.achieved_fraction is not None and self.achieved_fraction < self.promised_fraction


class PlaceReport(Model):
    """One provider's supply of one SKU in one region, and how much of it was in use; `series` has the mean of each bin."""

    provider: str
    region: str
    sku: str
    accelerators: int
    attempts: int
    accelerator_hours: float
    mean_used: float
    peak_used: float
    series: tuple[float, ...]


class QueueReport(Model):
    """A queue's use of a SKU beside what it owns. Lent: its part of what others borrowed, by its share of what is unused."""

    queue: str
    sku: str
    nominal: int
    mean_used: float
    peak_used: float
    accelerator_hours: float
    borrowed_accelerator_hours: float
    lent_accelerator_hours: float
    series: tuple[float, ...]


class PreemptionReport(Model):
    """One workload that had to leave for another. Seconds are the pool's; none when the beneficiary did not start then."""

    at_minutes: float
    victim: str
    victim_tier: SlaTier
    victim_queue: str
    sku: str
    accelerators: float
    beneficiary: str
    beneficiary_tier: SlaTier
    beneficiary_queue: str
    cause: Literal["reclaim", "higher tier", "higher priority"]
    notice_to_gone_seconds: float
    gone_to_bound_seconds: float | None
    lost_accelerator_hours: float
    victim_ended: State


class ReshapeReport(Model):
    """One workload that went on in another size or place. Seconds are the pool's; none when it did not go on."""

    at_minutes: float
    workload: str
    tier: SlaTier
    queue: str
    outcome: Literal[Outcome.RESIZED, Outcome.MIGRATED]
    before: str
    after: str
    notice_to_gone_seconds: float
    gone_to_bound_seconds: float | None
    lost_accelerator_hours: float


class RefusalReport(Model):
    """A workload that can never run, and why."""

    workload: str
    reason: str
    message: str


class MishapReport(Model):
    """An attempt that did not end well by itself, and what became of its workload."""

    at_minutes: float
    workload: str
    attempt: int
    outcome: Outcome
    reason: str
    exit_code: int | None
    afterwards: State
    attempts: int


class ProcessReport(Model):
    """A workload that ran as real processes on this machine, with what it wrote."""

    workload: str
    state: State
    attempts: int
    exit_code: int | None
    devices: float
    output: tuple[str, ...]


class ExplanationReport(Model):
    """What somebody who asked was told of a workload that waited; `fixes` would have started it, the cheapest first."""

    at_minutes: float
    workload: str
    reason: str
    message: str
    position: int | None
    fixes: tuple[str, ...]


class PolicyReport(Model):
    """A policy that was in force from then on."""

    version: int
    name: str
    digest: str
    at_minutes: float
    who: str
    why: str


class DeedReport(Model):
    """Something that was done to a workload or a machine, and the answer."""

    at_minutes: float
    verb: str
    workload: str
    why: str
    answer: str


class StepReport(Model):
    """One step of deciding a round."""

    name: str
    p50_milliseconds: float
    p99_milliseconds: float
    share: float
    """Of the time of all steps of all rounds."""


class RoundReport(Model):
    """One round that had work to start: the part of its bound that it did not reach."""

    at_minutes: float
    gap: float
    method: str
    started_accelerators: float
    bound: float


class PlanningReport(Model):
    """How good the rounds were, of those that could have started anything at all, and where their time went.

    `improved` workloads started beyond what turns alone would have given; `out_of_work` rounds looked for more, and not to
    the end. The balance of regions is the mean over rounds of the worst region's demand over its supply.
    """

    steps: tuple[StepReport, ...] = ()
    rounds: tuple[RoundReport, ...] = ()
    gap_mean: float | None = None
    gap_p90: float | None = None
    reached: int = 0
    """Rounds that no plan could have bettered."""
    improved: int = 0
    moved: int = 0
    out_of_work: int = 0
    worst_region_before: float | None = None
    worst_region_after: float | None = None


class Span(Model):
    """One attempt on the time line, from when it was bound to when it was gone."""

    workload: str
    tier: SlaTier
    place: str
    accelerators: float
    begin_minutes: float
    end_minutes: float
    outcome: Outcome | None


class Line(Model):
    """How many workloads waited and ran, by bin."""

    waiting: tuple[float, ...]
    active: tuple[float, ...]


class Report(Model):
    """Everything. `incidents` is what the supervisor of the servers said; a series has a value for each of `bins_minutes`."""

    version: Literal[1] = 1
    title: str
    notes: tuple[str, ...]
    began_at: AwareDatetime
    clock_speed: float
    minutes: float
    phases: tuple[Phase, ...]
    verdict: Verdict
    totals: Totals
    tiers: tuple[TierReport, ...]
    places: tuple[PlaceReport, ...]
    queues: tuple[QueueReport, ...]
    preemptions: tuple[PreemptionReport, ...]
    reshapes: tuple[ReshapeReport, ...]
    refusals: tuple[RefusalReport, ...]
    explanations: tuple[ExplanationReport, ...] = ()
    policies: tuple[PolicyReport, ...] = ()
    mishaps: tuple[MishapReport, ...]
    processes: tuple[ProcessReport, ...]
    deeds: tuple[DeedReport, ...]
    incidents: tuple[str, ...]
    planning: PlanningReport = PlanningReport()
    bins_minutes: tuple[float, ...]
    line: Line
    spans: tuple[Span, ...]

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """The tiers that got less than they were promised, in words. That is a measure, which no check forbids."""
        return tuple(
            f"{tier.tier} got {_below(tier.achieved_fraction, tier.promised_fraction)} of its entitled time, of the"
            f" {tier.promised_fraction:.2f} that it is promised"
            for tier in self.tiers
            if tier.is_short and tier.achieved_fraction is not None
        )


def _below(achieved: float, promised: float) -> str:
    """A fraction with as many digits as show that it is less than what was promised."""
    return next(text for digits in range(2, 20) if float(text := f"{achieved:.{digits}f}") < promised)
