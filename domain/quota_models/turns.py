"""Turns: what a quota model answers when it has let all that wait have their turn."""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from corral.api import Explanation
from domain.decision import Reshape, Start, StartAfter, Stop
from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.worlds.request import Kind
from domain.worlds.world import World


@dataclass(frozen=True, slots=True)
class Turns:
    """Who moved, who still waits, and the world in which it ends.

    `moved` is in the order in which it was decided. `answers` says, by workload id, why work waits where the model knows
    better than the rules that all models share, and `of_kinds` the same of everybody of a kind (`Facts.turn_kind`) who has no
    answer of their own; an answer of none leaves it to the rules. For those who are `awaiting` it is kept what others will
    leave. `unfinished`: a limit of one round left work that would move in the next.
    """

    moved: tuple[Start | StartAfter, ...]
    waiting: Collection[Waiting]
    world: World
    reshapes: tuple[Reshape, ...] = ()
    stops: tuple[Stop, ...] = ()
    answers: Mapping[str, Explanation | None] = field(default_factory=dict)
    of_kinds: Mapping[Kind, Explanation] = field(default_factory=dict)
    awaiting: Set[str] = frozenset()
    unfinished: bool = False


class TakeTurns(Protocol):
    """A quota model: whose turn it is, and what each turn does to the world that the turns before it left."""

    def __call__(self, waiting: Collection[Waiting], world: World, facts: Facts, *, once: bool) -> Turns:
        """Take turns: a single pass when `once`, else until nothing moves any more."""
