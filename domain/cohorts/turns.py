"""Turns by Kueue's rules: cycle after cycle over the heads of all queues."""

from collections.abc import Collection

from corral.api import Explanation, Reason
from domain.cohorts import answers
from domain.cohorts.cycle import Cycle, run_cycle
from domain.cohorts.lines import Lines
from domain.cohorts.nomination import Verdict
from domain.cohorts.setting import Setting
from domain.decision import Start, StartAfter
from domain.facts import Facts
from domain.ranked import Starts
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


def take_turns(waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Run one cycle, or as many as it takes until nobody moves though everybody has been considered again."""
    setting, starts = Setting.of(facts), Starts(facts)
    lines = Lines(waiting, setting)
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
    why = _answers(lines, cycle, setting, starts, once=once)
    started = {decision.workload_id for decision in moved}
    left = tuple(workload for workload in waiting if workload.id not in started)
    unfinished = any(answer.reason is Reason.ROUND_LIMIT_REACHED for answer in why.values())
    return Turns(tuple(moved), left, world, answers=why, unfinished=unfinished)


def _answers(lines: Lines, cycle: Cycle, setting: Setting, starts: Starts, *, once: bool) -> dict[str, Explanation]:
    """Why those wait whose turn has not come, or came to nothing for a reason that is not in the world."""
    stuck = {nomination.workload.id: nomination.verdict for nomination in cycle.stuck}
    outraced = {workload.id for workload in cycle.outraced}
    why: dict[str, Explanation] = {}
    for workload in (each for line in lines.left() for each in line):
        verdict = stuck.get(workload.id, lines.verdict(workload))
        gate = answers.gated(workload, setting) if verdict is Verdict.PREEMPTS else None
        if (limit := starts.limit_reached(workload.spec.queue)) is not None:
            why[workload.id] = answers.limited(limit, setting)
        elif gate is not None:
            why[workload.id] = gate
        elif workload.id in outraced:
            why[workload.id] = answers.outraced(setting)
        elif once and verdict is None:
            why[workload.id] = answers.not_considered(setting)
    return why | {id: answer for line in lines.left() for id, answer in answers.behind(line, setting).items()}
