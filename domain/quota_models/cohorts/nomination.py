"""Nomination: what one workload could have in the world as it is: SKUs, a place, and who would have to leave for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from corral.api import Search
from domain.placement.layout import Candidate
from domain.placement.scoring import Choice, choice
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.borrowing import Needs
from domain.quota_models.cohorts.contest import Contest, Victims
from domain.quota_models.cohorts.flavors import Assignment, assign
from domain.quota_models.cohorts.grades import Grade, Mode
from domain.quota_models.cohorts.leaving import RoomWithout
from domain.quota_models.cohorts.partial import counts_between, with_counts
from domain.quota_models.cohorts.places import accepted_skus, place, short_of_room
from domain.quota_models.cohorts.preempting import victims_for
from domain.quota_models.cohorts.setting import Runner, Setting
from domain.quota_models.openings import open_ranks
from domain.worlds.request import Request
from domain.worlds.world import World


class Verdict(Enum):
    """What becomes of a workload whose turn it is."""

    FITS = auto()
    PREEMPTS = auto()
    """It starts when its victims, and all who have notice, have left."""
    LACKS_VICTIMS = auto()
    """Others have what it needs, and nobody may be made to leave for it."""
    NEVER_FITS = auto()
    """It has no SKU, quota or place, whoever leaves."""


@dataclass(frozen=True, slots=True)
class Nomination:
    """The verdict on a workload, with the SKUs and the place that it is about."""

    workload: Waiting
    verdict: Verdict
    assignment: Assignment | None = None
    candidate: Candidate | None = None
    victims: Victims = ()

    @property
    def level(self) -> int:
        """How far from home its quota comes."""
        return self.assignment.level if self.assignment else 0

    @property
    def needs(self) -> Needs:
        """What it would use by SKU, in thousandths."""
        return self.assignment.needs if self.assignment else {}


STARTS = (Verdict.FITS, Verdict.PREEMPTS)


def nominate(workload: Waiting, world: World, setting: Setting, pinned: Mapping[str, str] | None = None) -> Nomination:
    """The first target under which the workload starts, at once or else after others have left.

    With `pinned`, groups keep the SKUs that they have there.
    """
    kept: Nomination | None = None
    for rank in open_ranks(workload, setting.facts):
        nominations = [_under(workload, request, world, setting, pinned) for request in rank]
        fitting = [each for each in nominations if each.verdict is Verdict.FITS]
        if fitting:
            return min(fitting, key=lambda each: _choice(each, world))
        nearest = min(nominations, key=lambda each: each.verdict.value)
        kept = nearest if kept is None or nearest.verdict.value < kept.verdict.value else kept
    assert kept is not None, "a workload under consideration has an open target"
    return kept


def _choice(nomination: Nomination, world: World) -> Choice:
    assert nomination.candidate is not None
    return choice(nomination.candidate, world)


def _under(workload: Waiting, request: Request, world: World, setting: Setting, pinned: Mapping[str, str] | None) -> Nomination:
    """The whole gang if it starts, or else as much of it, down to each group's minimum, as does."""
    accepted = accepted_skus(request, setting)
    if pinned is not None:
        accepted = {name: [sku for sku in skus if pinned.get(name, sku) == sku] for name, skus in accepted.items()}

    def attempt(counts: Sequence[int]) -> Nomination:
        return _try(workload, with_counts(request, counts), accepted, world, setting)

    whole = attempt([shape.count for shape in request.gang.shapes])
    if whole.verdict in STARTS:
        return whole
    fewer = counts_between(request, attempt, lambda nomination: nomination.verdict in STARTS)
    if fewer is None and request.gang.fewest:  # no such cut may be what it needs over all groups
        least = attempt([shape.count for shape in request.gang.at_minimum().shapes])
        fewer = least if least.verdict in STARTS else None
    return fewer or whole


def _try(
    workload: Waiting, request: Request, accepted: Mapping[str, Sequence[str]], world: World, setting: Setting
) -> Nomination:
    """What it could have of the SKUs that its queue prefers; where these have quota and no room, of those after them.

    What stands at a SKU only because others can be made to leave its nodes is passed over as the queue says of quota.
    """
    found = _on_preferred(workload, request, accepted, world, setting)
    if found.verdict is Verdict.FITS or found.assignment is None or not found.assignment.fits:
        return found
    if found.verdict is Verdict.PREEMPTS and setting.fungibility(workload.spec.queue).when_can_preempt is Search.STOP:
        return found
    for sku in sorted(short_of_room(request, found.assignment.skus, world)):
        others = {name: [each for each in skus if each != sku] or skus for name, skus in accepted.items()}
        if others != accepted:
            other = _try(workload, request, others, world, setting)
            found = min(found, other, key=lambda nomination: nomination.verdict.value)
    return found


def _on_preferred(
    workload: Waiting, request: Request, accepted: Mapping[str, Sequence[str]], world: World, setting: Setting
) -> Nomination:
    assignment = assign(workload, request, accepted, world, setting)
    if assignment is None:
        return Nomination(workload, Verdict.NEVER_FITS)
    if assignment.fits and (candidate := place(request, assignment.skus, world)) is not None:
        return Nomination(workload, Verdict.FITS, assignment, candidate)
    later = world.when_all_have_left()
    if assignment.fits and later is not world and (candidate := place(request, assignment.skus, later)) is not None:
        return Nomination(workload, Verdict.PREEMPTS, assignment, candidate)
    empty = place(request, assignment.skus, setting.facts.idle)
    if empty is None:
        return Nomination(workload, Verdict.NEVER_FITS, assignment)
    short = _with_shortage(assignment, request, later)
    victims = _victims(workload, request, short, later, setting)
    if not victims:
        return Nomination(workload, Verdict.LACKS_VICTIMS, assignment, empty)
    candidate = place(request, assignment.skus, _after(victims, later))
    return Nomination(workload, Verdict.PREEMPTS, assignment, candidate, victims)


def _with_shortage(assignment: Assignment, request: Request, later: World) -> Assignment:
    """The same, short also of the SKUs whose nodes are full."""
    if place(request, assignment.skus, later) is not None:
        return assignment
    full = short_of_room(request, assignment.skus, later)
    grades = {sku: Grade(Mode.PREEMPT, grade.level) if sku in full else grade for sku, grade in assignment.grades.items()}
    return replace(assignment, grades=grades)


def _victims(workload: Waiting, request: Request, assignment: Assignment, later: World, setting: Setting) -> Victims:
    tree, queue = later.usage.tree, workload.spec.queue
    short = frozenset(row for sku in assignment.short for row in tree.rows(queue, sku))
    contest = Contest(
        workload, assignment.needs, short, later.usage, later.stopped, RoomWithout(request, assignment.skus, later)
    )
    return victims_for(contest, setting)


def _after(victims: Sequence[Runner], later: World) -> World:
    """The world without the victims; those on their way out have made room in it already."""
    return later.without(victim.active for victim in victims if not victim.is_leaving)
