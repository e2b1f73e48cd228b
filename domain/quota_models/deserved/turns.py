"""The rounds of the quota model `deserved`: allocate, consolidate, reclaim, preempt, as often as anything moves."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from corral.policy import Action
from domain.facts import Facts
from domain.pool.fleet import Amount
from domain.pool.workload import Waiting
from domain.quota_models.deserved.enforcing import enforce
from domain.quota_models.deserved.failures import Failures, footprint_of
from domain.quota_models.deserved.fairness import is_candidate, is_fair, may_ask
from domain.quota_models.deserved.jobs import Job, next_chunk, one_more_each
from domain.quota_models.deserved.line import Line
from domain.quota_models.deserved.placing import begin, place
from domain.quota_models.deserved.plan import Draft
from domain.quota_models.deserved.protection import candidates, is_within_budgets, may_have_others_stopped
from domain.quota_models.deserved.scenario import Outcome
from domain.quota_models.deserved.search import Candidate, Quest, Validator, find
from domain.quota_models.deserved.setting import Setting
from domain.quota_models.turns import Turns
from domain.worlds.world import World


def take_turns(waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Do the policy's actions in their order, once or until nothing moves any more."""
    draft = Draft(Setting.of(facts.backlog(waiting), facts), world)
    while True:
        before = draft.changes
        for action in _actions(facts):
            ACTIONS[action](draft)
        if once or draft.changes == before:
            return draft.turns()


def _actions(facts: Facts) -> Sequence[Action]:
    actions = facts.policy.rank.deserved.actions
    return actions if facts.policy.rank.preemption else [action for action in actions if action is Action.ALLOCATE]


def allocate(draft: Draft) -> None:
    """Start jobs and let them grow on idle capacity, in turn: whoever got something lines up again for more."""
    setting = draft.setting
    line = Line(setting.books, draft.stage.world.usage, draft.in_line())
    while (entry := line.next()) is not None:
        job, before = setting.job(entry.job_id), draft.stage
        if _allocated(job, draft) and (again := draft.wish(job)) is not None:
            line.push(again)
        if draft.stage is before:
            line.pass_over()
        else:
            line.see(draft.stage.world.usage, (entry.queue,))


def _allocated(job: Job, draft: Draft) -> bool:
    """Give the job its next chunk on idle capacity; what only becomes free is kept for it, and it waits."""
    stage = draft.stage
    beside = stage.placed.get(job.id)
    if beside is not None:
        for chunk in one_more_each(job, beside):
            if (part := place(job, chunk, beside, stage.world, draft.setting)) is not None:
                draft.grow(job, part)
                return True
        return False
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
    while (entry := line.next()) is not None:
        job = setting.job(entry.job_id)
        footprint = footprint_of(job, draft.stage.placed.get(job.id))
        is_worth_trying = may(job) and may_have_others_stopped(job, setting) and not failures.foretell(job, footprint)
        if is_worth_trying and _found_victims(job, draft, victims, validator(job)):
            line.see(draft.stage.world.usage, setting.books.tree.paths)
            continue
        if is_worth_trying:
            failures.note(job, footprint)
        line.pass_over()


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
        if (solution := find(quest)) is not None and draft.carries_out(narrowed, solution):
            return True
    return False
