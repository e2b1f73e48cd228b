"""The life of one simulated attempt: a pure function of what was recorded of it.

A workload describes its behaviour by parameters of its spec, in seconds of the pool's time:

- `runtime_seconds`: how much work it is (default: its expected seconds, else 60); `exit_code`: how it ends (default 0);
- `start_delay_seconds`: how long it starts (default 0);
- `checkpoint_every_seconds`: it saves its work that often (default: never by itself);
- `checkpoint_seconds`: it needs that long to save its work on notice (default 5);
- `ignore_notice`: `true` when it goes on until its grace is over.

On notice it stops computing, saves its work, and stops on its own, if its grace is long enough for that; else it goes on to the
end of its grace. When the notice is taken back before, it computes on, and what it was about to save is not saved. The next
attempt of the workload goes on from what was saved last.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from activities.ports import ErrorClass, LaunchSpec, Phase, ProviderError

DEFAULT_RUNTIME_SECONDS = 60.0
DEFAULT_CHECKPOINT_SECONDS = 5.0
SAVED_AND_STOPPED = "stopped with its work saved"
FOR_EVER = math.inf

Value = TypeVar("Value")
Default = TypeVar("Default")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a workload would do if nobody disturbed it, and what it does on notice."""

    runtime_seconds: float = DEFAULT_RUNTIME_SECONDS
    exit_code: int = 0
    start_delay_seconds: float = 0
    checkpoint_every_seconds: float | None = None
    checkpoint_seconds: float = DEFAULT_CHECKPOINT_SECONDS
    ignores_notice: bool = False

    @classmethod
    def of(cls, order: LaunchSpec) -> Self:
        """Read an order's parameters.

        Raises:
            ProviderError: `INVALID_SPEC`, naming the parameter, its value and what was expected.
        """
        given = order.parameters
        expected = DEFAULT_RUNTIME_SECONDS if order.expected_seconds is None else order.expected_seconds
        return cls(
            runtime_seconds=_parameter(given, "runtime_seconds", _seconds, float(expected)),
            exit_code=_parameter(given, "exit_code", int, 0),
            start_delay_seconds=_parameter(given, "start_delay_seconds", _seconds, 0.0),
            checkpoint_every_seconds=_parameter(given, "checkpoint_every_seconds", _interval, None),
            checkpoint_seconds=_parameter(given, "checkpoint_seconds", _seconds, DEFAULT_CHECKPOINT_SECONDS),
            ignores_notice=_parameter(given, "ignore_notice", _yes_or_no, False),
        )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise ValueError(text)
    return seconds


def _yes_or_no(text: str) -> bool:
    return {"true": True, "false": False}[text]


_EXPECTED: Mapping[Callable[[str], object], str] = {
    _seconds: "a number of seconds, 0 or more",
    _interval: "a number of seconds above 0",
    _yes_or_no: "true or false",
    int: "a whole number",
}


def _parameter(given: Mapping[str, str], name: str, read: Callable[[str], Value], default: Default) -> Value | Default:
    if name not in given:
        return default
    try:
        return read(given[name])
    except (ValueError, KeyError):
        message = f"parameter {name} is {given[name]!r}; expected {_EXPECTED[read]}"
        raise ProviderError(ErrorClass.INVALID_SPEC, message) from None


@dataclass(frozen=True, slots=True)
class Occupied:
    """What one replica has of a node: `milli` thousandths of each of these devices."""

    node: str
    devices: tuple[int, ...]
    milli: int


@dataclass(frozen=True, slots=True)
class Told:
    """What an attempt was told about leaving: to do so within a grace, or that this notice is taken back.

    With `occupied`, it is to go on with exactly these replicas, and the others are to leave, or to be stopped `at_once`.
    """

    notice: int
    grace_seconds: float = 0
    occupied: tuple[Occupied, ...] = ()
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A notice as it took effect, and when it was taken back, if it was."""

    at: float
    grace_seconds: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Resizing:
    """A notice for another size: what the attempt was to have before and is to have, when it has that, when it was taken back.

    `forced_at` is when the grace of those who leave is over; `is_forced` says that they were to be stopped at once, and
    `has_left` that they are gone.
    """

    notice: int
    before: tuple[Occupied, ...]
    after: tuple[Occupied, ...]
    done_at: float
    forced_at: float
    until: float = FOR_EVER
    is_forced: bool = False
    has_left: bool = False

    @property
    def leaving(self) -> Counter[Occupied]:
        """What those have who are to leave and have not."""
        is_over = self.has_left or self.until < FOR_EVER
        return Counter() if is_over else Counter(self.before) - Counter(self.after)

    def without_those_on(self, at: float, node: str) -> "Resizing":
        """The same once nothing is on a node any more of those who are to leave."""
        gone = Counter({part: number for part, number in self.leaving.items() if part.node == node})
        if not gone:
            return self
        fewer = replace(self, before=tuple((Counter(self.before) - gone).elements()))
        return fewer if fewer.leaving else replace(fewer, done_at=min(self.done_at, at))

    def hurried(self, at: float) -> "Resizing":
        """The same, where those who leave are stopped by force as soon as their grace is over."""
        return replace(self, done_at=min(self.done_at, max(at, self.forced_at)))


@dataclass(frozen=True, slots=True)
class Run:
    """One launch as it was recorded, and what befell it since. Times are seconds since 1970 in the pool's time.

    `saved_before` are the seconds of work that earlier attempts of the workload had saved. `occupied` is what it was launched
    with.
    """

    attempt_id: str
    workload_id: str
    epoch: int
    digest: str
    occupied: tuple[Occupied, ...]
    behaviour: Behaviour
    launched_at: float
    fails_to_start: bool = False
    is_stubborn: bool = False
    is_stuck: bool = False
    saved_before: float = 0
    notices: tuple[Given, ...] = ()
    resizings: tuple[Resizing, ...] = ()
    last_notice: int = 0
    released_at: float | None = None
    lost_at: float | None = None
    lost_because: str = ""

    @property
    def size(self) -> tuple[Occupied, ...]:
        """What it is to have."""
        return next((each.after for each in reversed(self.resizings) if each.until == FOR_EVER), self.occupied)

    @property
    def has(self) -> tuple[Occupied, ...]:
        """All that it has now, replicas included that are to leave."""
        return tuple(sum((each.leaving for each in self.resizings), Counter(self.size)).elements())

    @property
    def ready_at(self) -> float:
        """When it runs, unless something comes between."""
        return self.launched_at + self.behaviour.start_delay_seconds

    @property
    def ends_at(self) -> float:
        """When its work is done, unless something comes between."""
        return self.ready_at + max(0.0, self.behaviour.runtime_seconds - self.saved_before) + self.paused(FOR_EVER)

    def saves_on(self, given: Given) -> bool:
        """It heeds a notice, and its grace is long enough to save its work."""
        heeds = not self.behaviour.ignores_notice and not self.is_stubborn
        return heeds and self.behaviour.checkpoint_seconds <= given.grace_seconds

    def paused(self, until: float) -> float:
        """Seconds up to a time in which it began to save its work, and was told to stay before it had."""
        began = [given for given in self.notices if given.until is not None and self.saves_on(given)]
        return sum(max(0.0, min(given.until or until, until) - max(given.at, self.ready_at)) for given in began)

    def noticed(self, at: float, told: Told) -> "Run":
        """The same with notice to stop, in the place of one before; what is not later than the last one changes nothing."""
        if told.notice <= self.last_notice:
            return self
        before = self._taken_back(at)
        return replace(self, notices=(*before, Given(at, told.grace_seconds)), last_notice=told.notice)

    def kept(self, at: float, told: Told) -> "Run":
        """The same without notice to stop, unless a later one was given."""
        if told.notice < self.last_notice:
            return self
        return replace(self._in_its_old_size(at, told.notice), notices=self._taken_back(at), last_notice=told.notice)

    def resized(self, at: float, told: Told) -> "Run":
        """The same with notice to go on with other replicas; those that come are there at once."""
        if told.notice <= self.last_notice:
            return self._with_those_forced_who_leave(at, told) if told.at_once else self
        leaves_after = 0.0
        if Counter(self.size) - Counter(told.occupied):
            leaves_after = self.seconds_to_leave(Given(at, told.grace_seconds))
        done_at = max(at + leaves_after, self.ready_at)
        resizing = Resizing(told.notice, self.size, told.occupied, done_at, at + told.grace_seconds)
        earlier = self.resizings if self.is_stuck else tuple(each.hurried(at) for each in self.resizings)
        turned = replace(self, resizings=(*earlier, resizing), last_notice=told.notice)
        return turned._with_those_forced_who_leave(at, told) if told.at_once else turned

    def _with_those_forced_who_leave(self, at: float, told: Told) -> "Run":
        """The same without those who leave by the last notice, if it is this one, and in force."""
        *earlier, last = self.resizings or (None,)
        is_in_force = last is not None and last.notice == told.notice == self.last_notice and at < min(last.done_at, last.until)
        if last is None or not is_in_force:
            return self
        forced = replace(last, is_forced=True, done_at=last.done_at if self.is_stuck else max(at, self.ready_at))
        return replace(self, resizings=(*(each for each in earlier if each is not None), forced))

    def without_those_who_left(self, notice: int) -> "Run":
        """The same once those are gone who were to leave by that notice."""
        seen = (replace(each, has_left=each.has_left or each.notice == notice) for each in self.resizings)
        return replace(self, resizings=tuple(seen))

    def has_only_remnants_on(self, node: str) -> bool:
        """Whether all that it has on a node are replicas that it is not to have any more, and that nobody lets stay."""
        may_stay = (part for each in self.resizings[-1:] if not each.is_forced for part in each.leaving)
        return all(part.node != node for part in (*self.size, *may_stay))

    def without_those_on(self, at: float, node: str) -> "Run":
        """The same once nothing is on a node any more of those who are to leave."""
        return replace(self, resizings=tuple(each.without_those_on(at, node) for each in self.resizings))

    def remains(self, reached: Collection[int]) -> frozenset[int]:
        """The notices before the last one of those that it reached by which somebody is still to leave."""
        before = (each for each in self.resizings if each.notice < max(reached) and each.until == FOR_EVER)
        return frozenset(each.notice for each in before if each.notice not in reached)

    def _in_its_old_size(self, at: float, notice: int) -> "Run":
        *others, last = self.resizings or (None,)
        if last is None or last.notice != notice or last.until <= at:
            return self
        earlier = tuple(each for each in others if each is not None)
        return replace(self, resizings=(*earlier, replace(last, until=at)))

    def seconds_to_leave(self, given: Given) -> float:
        """How long replicas take to leave once they have notice."""
        if self.saves_on(given):
            return self.behaviour.checkpoint_seconds
        return FOR_EVER if self.is_stubborn else given.grace_seconds

    def _taken_back(self, at: float) -> tuple[Given, ...]:
        return tuple(replace(given, until=at) if given.until is None else given for given in self.notices)

    def released(self, at: float) -> "Run":
        """The same, stopped at once."""
        return self if self.released_at is not None else replace(self, released_at=at)

    def lost(self, at: float, why: str) -> "Run":
        """The same, gone with its node or with the lease of its cluster."""
        return self if self.lost_at is not None else replace(self, lost_at=at, lost_because=why)


@dataclass(frozen=True, slots=True)
class Moment:
    """When an attempt enters a phase."""

    at: float
    phase: Phase
    reason: str = ""
    exit_code: int | None = None
    resized: int = 0
    """The number of the notice by which it has another size from then on."""


Timeline = tuple[Moment, ...]
"""All phases of an attempt, past and to come, never empty. What happens later changes only what lies after it."""


def timeline(run: Run) -> Timeline:
    """How the attempt goes, as far as is known now."""
    life = _undisturbed(run)
    for given in run.notices:
        life = _after_notice(run, life, given)
    if run.released_at is not None and not run.is_stuck:
        life = _cut(life, Moment(run.released_at, Phase.CANCELLED, "released"))
    if run.lost_at is not None:
        life = _cut(life, Moment(run.lost_at, Phase.LOST, run.lost_because))
    return life


def _undisturbed(run: Run) -> Timeline:
    starting = (Moment(run.launched_at, Phase.STARTING),) if run.ready_at > run.launched_at else ()
    if run.fails_to_start:
        return (*starting, Moment(run.ready_at, Phase.FAILED, "failed to start"))
    code = run.behaviour.exit_code
    end = Moment(run.ends_at, Phase.FAILED, f"exit code {code}", code) if code else Moment(run.ends_at, Phase.SUCCEEDED, "", 0)
    turns = sorted((moment for each in run.resizings for moment in _resized(each) if moment.at < end.at), key=lambda it: it.at)
    return (*starting, Moment(run.ready_at, Phase.RUNNING), *turns, end)


def _resized(resizing: Resizing) -> Iterator[Moment]:
    if resizing.done_at < resizing.until:
        yield Moment(resizing.done_at, Phase.RUNNING, resized=resizing.notice)
    if resizing.until < FOR_EVER:
        yield Moment(resizing.until, Phase.RUNNING)


def _after_notice(run: Run, life: Timeline, given: Given) -> Timeline:
    if given.at < run.ready_at:
        return _cut(life, Moment(given.at, Phase.CANCELLED, "stopped before it ran"))
    own_end, stopping = life[-1], _cut(life, Moment(given.at, Phase.STOPPING))
    saves = run.saves_on(given)
    if saves:
        end = Moment(given.at + run.behaviour.checkpoint_seconds, Phase.CANCELLED, SAVED_AND_STOPPED)
    else:
        end = Moment(given.at + run.seconds_to_leave(given), Phase.CANCELLED, "stopped at the end of its grace")
    if not saves and own_end.at <= end.at:
        end = own_end
    if given.until is None or given.until >= end.at:
        return _cut(stopping, end)
    return (*_cut(stopping, Moment(given.until, Phase.RUNNING)), own_end)


def _cut(life: Timeline, then: Moment) -> Timeline:
    """The life up to a moment that ends or turns it, unless it was over before."""
    before = tuple(moment for moment in life if moment.at <= then.at)
    return life if before and before[-1].phase.is_over else (*before, then)


def saved_seconds(run: Run, life: Timeline, now: float) -> float:
    """Seconds of this attempt's own work that are saved by `now`.

    That is all up to the notice when it has stopped on its own, else what it had computed at its last regular checkpoint.
    """
    computing_until = min(now, life[-1].at)
    in_force = next((given for given in run.notices if given.until is None), None)
    if in_force is not None and run.saves_on(in_force):
        computing_until = min(computing_until, in_force.at)
    computed = max(0.0, computing_until - run.ready_at - run.paused(computing_until))
    if life[-1].reason == SAVED_AND_STOPPED and life[-1].at <= now:
        return computed
    every = run.behaviour.checkpoint_every_seconds
    return computed // every * every if every else 0.0
