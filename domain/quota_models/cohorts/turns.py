"""Turns by Kueue's rules: cycle after cycle over the heads of all queues."""

from collections.abc import Collection

from corral.api import Reason
from domain.decision import Start, StartAfter
from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.answers import Ending
from domain.quota_models.cohorts.cycle import run_cycle
from domain.quota_models.cohorts.lines import Lines
from domain.quota_models.cohorts.setting import Setting
from domain.quota_models.starts import Starts
from domain.quota_models.turns import Turns
from domain.worlds.world import World


def take_turns(waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Run one cycle, or as many as it takes until nobody moves though everybody has been considered again."""
    setting, starts, backlog = Setting.of(facts), Starts(facts), facts.backlog(waiting)
    lines = Lines(backlog, setting)
    moved: list[Start | StartAfter] = []
    has_moved = False
    while True:
        cycle = run_cycle(lines.heads(), world, setting, starts)
        world = cycle.world
        for workload, decision in cycle.moves:
            lines.remove(workload)
            moved.append(decision)
        parked = [nomination for nomination in cycle.stuck if lines.park(nomination)]
        has_moved = has_moved or bool(cycle.moves)
        if once or not (cycle.moves or parked or has_moved):
            break
        if not cycle.moves and not parked:
            lines.reconsider()
            has_moved = False
    stuck = {nomination.workload.id: nomination.verdict for nomination in cycle.stuck}
    ending = Ending(lines, stuck, {workload.id for workload in cycle.outraced}, setting, starts, once)
    of_some, of_kinds = ending.of_some(), ending.of_kinds()
    left = backlog.without(decision.workload_id for decision in moved)
    every = (*of_some.values(), *of_kinds.values())
    unfinished = any(answer is not None and answer.reason is Reason.ROUND_LIMIT_REACHED for answer in every)
    return Turns(tuple(moved), left, world, answers=of_some, of_kinds=of_kinds, unfinished=unfinished)
