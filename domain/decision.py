"""What a round answers: one decision a workload, each "no" with its reason as a value."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from corral.api import WHOLE, Explanation, Reason
from domain.pool.bookings import Booking
from domain.pool.fleet import Amount, Placement


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rule's "no" to one candidate (a node, a topology domain, a target, a queue).

    `group` is the first of the replica groups that it concerns, where it does not concern all.
    """

    candidate: str
    reason: Reason
    needs: int = 0
    has: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Capacity is free: hold it for the workload.

    `terms` says what each soft goal counted in the choice, in millionths of a dollar per accelerator and hour.
    """

    workload_id: str
    placement: Placement
    terms: tuple[tuple[str, int], ...] = ()

    @property
    def in_words(self) -> str:
        """What the place counts, and of what that is the sum: `$2.31 per accelerator-hour: price 2.30, spread 0.0051`."""
        said = ", ".join(f"{term} {_dollars(score)}" for term, score in self.terms if _dollars(score) != NOTHING)
        return f"${_dollars(sum(score for _, score in self.terms))} per accelerator-hour{f': {said}' if said else ''}"


NOTHING = "0.00"


def _dollars(millionths: int) -> str:
    """An amount in cents, and one of less than a cent in hundredths of one: goals that only tip the scales count so little."""
    hundredths = round(millionths / 100)
    if hundredths == 0:
        return NOTHING
    return f"{hundredths / 10_000:.2f}" if abs(hundredths) >= 100 else f"{hundredths / 10_000:.4f}"


class Change(StrEnum):
    """What happens to work that keeps running: fewer replicas, more of them, or other nodes."""

    SHRINK = "shrink"
    GROW = "grow"
    MIGRATE = "migrate"


@dataclass(frozen=True, slots=True)
class Trade:
    """What moving work for nobody in particular comes to, together with all that leaves the same node for the same reason.

    `gain` is free capacity that the known demand can use besides, over so many `seconds`, and `cost` what is lost; both are
    thousandths of an accelerator times seconds.
    """

    gain: int
    cost: int
    seconds: int

    @property
    def in_words(self) -> str:
        """One line for a person; in accelerator-seconds."""
        gain, cost = self.gain / WHOLE, self.cost / WHOLE
        return f"more of what is free can be used: {gain:,.0f} accelerator-seconds in {self.seconds:,} s, for {cost:,.0f} lost"


@dataclass(frozen=True, slots=True)
class Reshape:
    """A running attempt gets another placement; for a beneficiary (workload id) or, where none is named, for itself.

    With a `trade` it moves for neither, but so that more of what is free can be used. A `reason` stands with a beneficiary that
    takes back what was lent to it, and with `why` in words.
    """

    attempt_id: str
    change: Change
    placement: Placement
    beneficiary: str | None = None
    trade: Trade | None = None
    reason: Reason | None = None
    why: str = ""


class Method(StrEnum):
    """How something was chosen: step by step, by a flow between classes of like nodes, or among all plans on some nodes."""

    GREEDY = "greedy"
    FLOW = "flow"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Proof:
    """How much a disturbance costs and how little any could, in thousandths of an accelerator times seconds.

    Costs are compared level by level (`domain/disruption/means.py`): both numbers count the levels down to the first at which a
    better plan is not ruled out, or all where none is better. Without a bound nothing is ruled out.
    """

    method: Method
    cost: int
    bound: int | None = None

    @property
    def gap(self) -> float | None:
        """How far the cost may be from the least, as a part of the cost; 0 when it is proven to be the least."""
        return None if self.bound is None else 1 - self.bound / self.cost

    @property
    def in_words(self) -> str:
        """One line for a person; costs are in accelerator-seconds."""
        said = f"{self.method}: {self.cost / WHOLE:,.0f} accelerator-seconds are lost"
        if self.gap is None:
            return said
        return f"{said}, no plan loses less" if not self.gap else f"{said}, at most {self.gap:.0%} of that could be avoided"


@dataclass(frozen=True, slots=True)
class StartAfter:
    """Capacity becomes free when these attempts have left, shrunk or moved: promise it to the workload and give them notice."""

    workload_id: str
    placement: Placement
    victims: tuple[str, ...]
    """Attempt ids, each at most once in a plan."""
    reshapes: tuple[Reshape, ...] = ()
    """For this workload; the plan's own have them too."""
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done for the workload now."""

    workload_id: str
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Refuse:
    """The workload can never run as it stands."""

    workload_id: str
    explanation: Explanation


Decision = Start | StartAfter | Wait | Refuse


@dataclass(frozen=True, slots=True)
class Stop:
    """An attempt must leave though no workload takes its place: its queue has more than it may have, or its nodes are kept.

    With a `beneficiary` (workload id) its nodes were lent, and that workload wants them; or that one runs, and grows into them.
    """

    attempt_id: str
    reason: Reason
    why: str = ""
    beneficiary: str | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """An attempt that has notice to leave stays: the one for whose sake it was to go is gone, and nobody else needs it to."""

    attempt_id: str
    beneficiary: str


class Fallback(StrEnum):
    """Why somebody kept the answer of the greedy turns though a better plan was not ruled out."""

    OUT_OF_WORK = "out-of-work"
    """The work that the policy allows for one round was spent."""
    NOT_VALID = "not-valid"
    """A better plan was found that a rule refuses which the programme does not know."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How good a round is: thousandths of an accelerator that it started on free capacity, and the most that any could.

    `improved` are the workloads that started beyond those of the greedy turns, `moved` those that start elsewhere for them.
    A worst region is the largest of (what is in use + the demand that is meant for it) / supply over all regions: before
    the round everybody who waits is meant for the cheapest region that has room for it alone, afterwards for where the round
    has put it, or where there is most left of those that it accepts.
    """

    objective: Amount
    bound: Amount
    method: Method = Method.GREEDY
    improved: int = 0
    moved: int = 0
    fallback: Fallback | None = None
    worst_region_before: float = 0.0
    worst_region_after: float = 0.0

    @property
    def gap(self) -> float:
        """How much of the bound is not reached, 0 to 1; 0 where no plan could start more."""
        return 1 - self.objective / self.bound if self.bound else 0.0

    @property
    def in_words(self) -> str:
        """One line for a person."""
        said = f"{self.objective / WHOLE:,g} accelerators started of at most {self.bound / WHOLE:,g} (gap {self.gap:.1%})"
        if self.improved:
            said += f", {self.improved} workloads by {self.method} beyond turns alone"
        return f"{said}, {self.fallback}" if self.fallback else said


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions of one round, in the order in which they were taken, and what happens to work that runs.

    An `unfinished` one left work that another round would move at once. `over_quota` are the workloads, waiting or not, that
    are entitled to nothing for now, and `misjudged` those of whom the record says the other, where somebody has looked.
    `bookings` are the reservations for which something has changed, and `look_at` is when
    time alone will change something for them again. `as_before` counts those who wait for the reason that they were told.
    """

    decisions: tuple[Decision, ...]
    reshapes: tuple[Reshape, ...] = ()
    stops: tuple[Stop, ...] = ()
    keeps: tuple[Keep, ...] = ()
    unfinished: bool = False
    over_quota: AbstractSet[str] = frozenset()
    misjudged: frozenset[str] | None = None
    quality: Quality | None = None
    bookings: tuple[Booking, ...] = ()
    look_at: datetime | None = None
    as_before: int = 0

    @property
    def starts(self) -> tuple[Start, ...]:
        """Workloads that get free capacity."""
        return tuple(decision for decision in self.decisions if isinstance(decision, Start))

    @property
    def preempts(self) -> tuple[tuple[str, str], ...]:
        """(attempt id of the victim, workload id of the beneficiary)."""
        return tuple(
            (victim, decision.workload_id)
            for decision in self.decisions
            if isinstance(decision, StartAfter)
            for victim in decision.victims
        )
