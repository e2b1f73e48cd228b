"""The rounds of the quota model `deserved`: allocate, consolidate, reclaim, preempt, as often as anything moves."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from corral.policy import Action
from domain.deserved.enforcing import enforce
from domain.deserved.failures import Failures, footprint_of
from domain.deserved.fairness import is_candidate, is_fair, may_ask
from domain.deserved.jobs import Job, jobs_of, next_chunk
from domain.deserved.line import Line
from domain.deserved.placing import begin, place
from domain.deserved.plan import Draft
from domain.deserved.protection import candidates, is_within_budgets, may_have_others_stopped
from domain.deserved.scenario import Outcome
from domain.deserved.search import Candidate, Quest, Validator, find
from domain.deserved.setting import Setting, entry_of
from domain.facts import Facts
from domain.fleet import Amount
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


def take_turns(waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Do the policy's actions in their order, once or until nothing moves any more."""
    jobs = jobs_of(waiting, facts)
    draft = Draft(Setting.of(jobs, facts), world)
    while True:
        before = draft.changes
        for action in _actions(facts):
            ACTIONS[action](draft)
        if once or draft.changes == before:
            return draft.turns(waiting)


def _actions(facts: Facts) -> Sequence[Action]:
    actions = facts.policy.rank.deserved.actions
    return actions if facts.policy.rank.preemption else [action for action in actions if action is Action.ALLOCATE]


def allocate(draft: Draft) -> None:
    """Start jobs and let them grow on idle capacity, in turn: whoever got something lines up again for more."""
    setting = draft.setting
    line = Line(setting.books, draft.stage.world.usage, draft.in_line())
    while line:
        entry = line.pop()
        job = setting.jobs[entry.job_id]
        if _allocated(job, draft) and (again := entry_of(job, draft.stage.placed[job.id], setting)) is not None:
            line.push(again)
        line.see(draft.stage.world.usage, (entry.queue,))


def _allocated(job: Job, draft: Draft) -> bool:
    """Give the job its next chunk on idle capacity; what only becomes free is kept for it, and it waits."""
    stage = draft.stage
    beside = stage.placed.get(job.id)
    if beside is not None:
        part = place(job, next_chunk(job, beside), beside, stage.world, draft.setting)
        if part is not None:
            draft.grow(job, part)
        return part is not None
    if (found := begin(job, stage.world)) is not None:
        draft.start(job, found)
        return True
    if stage.world.coming and (found := begin(job, stage.world.when_all_have_left())) is not None:
        draft.reserve(job, found.placement)
    return False


def consolidate(draft: Draft) -> None:
    """Move running work so that a job fits, as long as nobody loses a replica; only for jobs that may be moved themselves."""

    def victims(job: Job, needs: Mapping[str, Amount]) -> list[Candidate]:
        if draft.free() < max(needs.values(), default=0):
            return []
        movable = [other for other in draft.running() if other.id != job.id]
        return [Candidate(other) for other in movable[: draft.setting.facts.policy.rank.deserved.consolidated_workloads]]

    _for_each(draft, victims, lambda job: lambda needs, outcome: outcome.is_harmless, lambda job: job.is_preemptible)


def reclaim(draft: Draft) -> None:
    """Take back for a queue what others have above their fair share, or above what they deserve."""
    setting = draft.setting
    books = setting.books

    def victims(job: Job, needs: Mapping[str, Amount]) -> list[Candidate]:
        usage = draft.stage.world.usage
        if not may_ask(job.queue, needs, usage, books, preemptible=job.is_preemptible):
            return []
        queues = {other.queue for other in draft.running() if other.queue != job.queue}
        open_queues = {queue for queue in queues if is_candidate(queue, job.queue, needs, usage, books)}
        others = (other for other in draft.running() if other.queue in open_queues)
        return candidates(others, job, draft.stage, setting)

    def fair_for(job: Job) -> Validator:
        usage = draft.stage.world.usage

        def is_valid(needs: Mapping[str, Amount], outcome: Outcome) -> bool:
            return is_fair(job.queue, needs, outcome.lost, usage, books, preemptible=job.is_preemptible) and is_within_budgets(
                outcome.left, draft.stage, setting
            )

        return is_valid

    _for_each(draft, victims, fair_for, lambda job: True)


def preempt(draft: Draft) -> None:
    """Stop lower work of the same queue."""
    setting = draft.setting

    def victims(job: Job, needs: Mapping[str, Amount]) -> list[Candidate]:
        usage = draft.stage.world.usage
        if not job.is_preemptible and not setting.books.owns(job.queue, needs, usage):
            return []
        gap = setting.facts.policy.rank.deserved.priority_gap
        lower = (other for other in draft.running() if other.queue == job.queue and _is_lower(other, job, gap))
        return candidates(lower, job, draft.stage, setting)

    def within_budgets(needs: Mapping[str, Amount], outcome: Outcome) -> bool:
        return is_within_budgets(outcome.left, draft.stage, setting)

    _for_each(draft, victims, lambda job: within_budgets, lambda job: True)


def _is_lower(other: Job, job: Job, gap: int) -> bool:
    """Whether the other is of a lower tier, or of the same with a priority that is lower by the gap."""
    (theirs, their_priority), (mine, my_priority) = other.standing, job.standing
    return theirs < mine or (theirs == mine and their_priority <= my_priority - gap)


ACTIONS: Mapping[Action, Callable[[Draft], None]] = {
    Action.ALLOCATE: allocate,
    Action.CONSOLIDATE: consolidate,
    Action.RECLAIM: reclaim,
    Action.PREEMPT: preempt,
    Action.ENFORCE: enforce,
}


def _for_each(
    draft: Draft,
    victims: Callable[[Job, Mapping[str, Amount]], list[Candidate]],
    validator: Callable[[Job], Validator],
    may: Callable[[Job], bool],
) -> None:
    """Let every job in line look for victims; who asks for no less than one that found none is passed over in this pass."""
    setting = draft.setting
    line = Line(setting.books, draft.stage.world.usage, draft.in_line())
    failures = Failures()
    while line:
        job = setting.jobs[line.pop().job_id]
        footprint = footprint_of(job, draft.stage.placed.get(job.id))
        if not may(job) or not may_have_others_stopped(job, setting) or failures.foretell(job, footprint):
            continue
        if _found_victims(job, draft, victims, validator(job)):
            line.see(draft.stage.world.usage, setting.books.tree.paths)
        else:
            failures.note(job, footprint)


def _found_victims(
    job: Job, draft: Draft, victims: Callable[[Job, Mapping[str, Amount]], list[Candidate]], is_valid: Validator
) -> bool:
    """Try the job's targets in order; nobody has to leave where there is room anyway."""
    stage, setting = draft.stage, draft.setting
    beside = stage.placed.get(job.id)
    for request in chain(*job.ranks):
        narrowed = job.narrowed(request)
        chunk = next_chunk(narrowed, beside)
        needs = setting.asked(narrowed, beside, chunk)
        if not chunk or place(narrowed, chunk, beside, stage.world.when_all_have_left(), setting) is not None:
            return False
        candidates = victims(narrowed, needs)
        if not candidates:
            continue
        quest = Quest.of(narrowed, chunk, candidates, draft.in_line(), is_valid, stage, setting)
        if (solution := find(quest)) is not None:
            draft.carry_out(narrowed, chunk, solution)
            return True
    return False
