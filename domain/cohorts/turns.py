"""Turns by Kueue's rules: cycle after cycle over the heads of all queues."""

from domain.cohorts.cycle import run_cycle
from domain.cohorts.lines import Lines
from domain.cohorts.setting import Setting
from domain.decision import Start, StartAfter
from domain.facts import Facts
from domain.turns import Turns
from domain.workload import Waiting
from domain.world import World


def take_turns(waiting: list[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
    """Run one cycle, or as many as it takes until nobody moves though everybody has been considered again."""
    setting = Setting.of(facts)
    lines = Lines(waiting, setting)
    moved: list[Start | StartAfter] = []
    has_moved = False
    while True:
        cycle = run_cycle(lines.heads(), world, setting)
        world = cycle.world
        for workload, decision in cycle.moves:
            lines.remove(workload)
            moved.append(decision)
        parked = [nomination for nomination in cycle.stuck if lines.park(nomination.workload)]
        if once:
            break
        has_moved = has_moved or bool(cycle.moves)
        if not cycle.moves and not parked:
            if not has_moved:
                break
            lines.reconsider()
            has_moved = False
    started = {decision.workload_id for decision in moved}
    return Turns(tuple(moved), tuple(workload for workload in waiting if workload.id not in started), world)
