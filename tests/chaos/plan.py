"""What a seed decides: which work is submitted and which faults strike, each at its second; and the pool in which that is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from corral.api import Autoscale, Checkpoint, QueueTree, ReplicaGroup, SlaTier, State, Target, Topology, WorkloadSpec
from corral.policy import Disruption, Policy, Rank
from tests.chaos.faults import OF_LONG_RUNS, OF_RESIZES, Fault

SPEED = 60
"""How much faster than the wall's the pool's time runs."""
SECONDS_BETWEEN_ARRIVALS = 0.8
SECONDS_BETWEEN_FAULTS = 1.6
WARM_UP_SECONDS = 4.0
STRAGGLERS = 30
LONG_SECONDS = 100.0
QUIET_PART = 0.2
"""At the end of a run nothing more is ordered, so that the load can still come by what was."""

FLEET = """
providers:
  - name: {pool}-sim
    kind: simulated
    regions:
      - name: east
        clusters:
          - name: e1
            nodes:
              - {{sku: h100, count: 4, accelerators: 8, nodes_per_rack: 2}}
              - {{sku: a100, count: 3, accelerators: 4}}
      - name: west
        clusters:
          - name: w1
            nodes:
              - {{sku: h100, count: 2, accelerators: 8, nodes_per_rack: 2}}
              - {{sku: a100, count: 3, accelerators: 4}}
    faults: {{seed: 3, slow_start: 0.2, slow_start_seconds: 60}}
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A workload that is submitted at a second, and how it ends if nobody ends it before."""

    at: float
    spec: WorkloadSpec
    ends: State


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault at a second. `pick` (from 0 to 1) chooses among those whom it may strike; it lasts `seconds`, if it lasts."""

    at: float
    fault: Fault
    pick: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All that happens in `seconds` of the wall."""

    seed: int
    seconds: float
    arrivals: tuple[Arrival, ...]
    strikes: tuple[Strike, ...]
    stragglers: tuple[Arrival, ...]
    """Work that is submitted at the end, and resized or held and released, as long as an ordered fault has not struck."""

    @property
    def faults(self) -> frozenset[Fault]:
        """The faults of which at least one is planned."""
        return frozenset(strike.fault for strike in self.strikes)


def planned(seed: int, seconds: float) -> Plan:
    """The plan of a seed. Every fault strikes at least once, but for some in short ones; in long ones, again and again."""
    random = Random(seed)
    strikes = tuple(_strikes(random, seconds))
    arrivals = tuple(sorted((*_arrivals(random, seconds), *_whose_demand_changes(random, strikes)), key=lambda each: each.at))
    stragglers = [(endpoint, single)[number % 2](random, f"straggler-{number}") for number in range(STRAGGLERS)]
    return Plan(seed, seconds, arrivals, strikes, tuple(Arrival(seconds, spec, ends) for spec, ends in stragglers))


def _strikes(random: Random, seconds: float) -> Iterator[Strike]:
    span = seconds * (1 - QUIET_PART) - WARM_UP_SECONDS
    faults = [fault for fault in sorted(Fault) if seconds >= LONG_SECONDS or fault not in OF_LONG_RUNS]
    rounds = max(1, round(span / SECONDS_BETWEEN_FAULTS / len(faults)))
    order = [fault for _ in range(rounds) for fault in random.sample(faults, len(faults))]
    for number, fault in enumerate(order):
        at = WARM_UP_SECONDS + span * number / len(order)
        yield Strike(at, fault, random.random(), random.uniform(2, 6))


def _arrivals(random: Random, seconds: float) -> Iterator[Arrival]:
    kinds = [kind for kind, weight in KINDS for _ in range(weight)]
    for number in range(int(seconds / SECONDS_BETWEEN_ARRIVALS)):
        # The first ones are one of each kind, so that a short run has them all.
        kind = KINDS[number][0] if number < len(KINDS) else random.choice(kinds)
        at = random.uniform(0, 2) if number < len(KINDS) else number * SECONDS_BETWEEN_ARRIVALS
        spec, ends = kind(random, f"{kind.__name__.replace('_', '-')}-{number}")
        yield Arrival(at, spec, ends)


def _whose_demand_changes(random: Random, strikes: Iterable[Strike]) -> Iterator[Arrival]:
    """An endpoint a moment before each change of its demand or size, which otherwise might find none."""
    for number, strike in enumerate(strikes):
        if strike.fault in {Fault.DEMAND_CHANGED, Fault.SIZE_CHOSEN, *OF_RESIZES}:
            spec, ends = endpoint(random, f"endpoint-s{number}")
            yield Arrival(max(0.0, strike.at - 1), spec, ends)


def _spec(random: Random, id: str, sku: str, **more: Any) -> WorkloadSpec:
    given = {
        "id": id,
        "queue": random.choice(("research", "product")),
        "targets": (Target(skus=(sku,)),),
        "checkpoint": Checkpoint(grace_seconds=random.choice((20, 60, 120))),
        "priority": random.randint(0, 3),
    }
    return WorkloadSpec.model_validate(given | {"parameters": _behaving(random)} | more)


def _behaving(random: Random, **more: object) -> dict[str, str]:
    given: dict[str, object] = {
        "runtime_seconds": random.randint(60, 500),
        "checkpoint_every_seconds": 50,
        "checkpoint_seconds": random.choice((5, 30, 90)),
    }
    return {name: str(value) for name, value in (given | more).items()}


def single(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    groups = (ReplicaGroup(accelerators=random.choice((0.25, 0.5, 1, 1, 2, 4))),)
    return _spec(random, id, "a100", groups=groups), State.SUCCEEDED


def stubborn(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """Goes on until its grace is over."""
    return _spec(random, id, "a100", parameters=_behaving(random, ignore_notice="true")), State.SUCCEEDED


def gang(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    groups = (ReplicaGroup(count=2, accelerators=8),)
    tier = random.choice((SlaTier.BASIC, SlaTier.STANDARD))
    return _spec(random, id, "h100", groups=groups, topology=Topology(required="rack"), tier=tier), State.SUCCEEDED


def guest(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """Basic work that takes whole nodes and leaves for others."""
    groups = (ReplicaGroup(accelerators=8),)
    longer = _behaving(random, runtime_seconds=random.randint(400, 800))
    return _spec(random, id, "h100", groups=groups, tier=SlaTier.BASIC, parameters=longer), State.SUCCEEDED


def prime(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """Premium work for which others have to leave."""
    groups = (ReplicaGroup(count=random.choice((1, 2)), accelerators=8),)
    short = _behaving(random, runtime_seconds=random.randint(60, 150))
    return _spec(random, id, "h100", groups=groups, tier=SlaTier.PREMIUM, parameters=short), State.SUCCEEDED


def elastic(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    groups = (ReplicaGroup(count=4, minimum=2, accelerators=4),)
    return _spec(random, id, "h100", groups=groups, tier=SlaTier.BASIC), State.SUCCEEDED


def array(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    short = _behaving(random, runtime_seconds=random.randint(30, 90))
    return _spec(random, id, "a100", tasks=random.randint(5, 15), tier=SlaTier.BASIC, parameters=short), State.SUCCEEDED


def either(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """One SKU, or more of another."""
    targets = (Target(skus=("h100",), count=2), Target(skus=("a100",), count=4))
    groups = (ReplicaGroup(count=2, accelerators=2),)
    return _spec(random, id, "h100", groups=groups, targets=targets), State.SUCCEEDED


def failing(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    short = _behaving(random, runtime_seconds=40, exit_code=3)
    return _spec(random, id, "a100", retries=1, parameters=short), State.FAILED


def endless(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """Is stopped when it has run as long as it may."""
    for_ever = _behaving(random, runtime_seconds=10**6)
    return _spec(random, id, "a100", maximum_runtime_seconds=200, parameters=for_ever), State.FAILED


def endpoint(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    """Has as many replicas as its demand needs, until its time is over."""
    rules = Autoscale(target=10, minimum=1, most=4, step_down=4, down_window_seconds=20, period_seconds=10)
    for_ever = _behaving(random, runtime_seconds=10**6)
    groups = (ReplicaGroup(count=1, minimum=1),)
    more = {"groups": groups, "autoscale": rules, "maximum_runtime_seconds": 1_500, "parameters": for_ever}
    return _spec(random, id, "a100", **more), State.FAILED


def astray(random: Random, id: str) -> tuple[WorkloadSpec, State]:
    return _spec(random, id, "a100", queue="nowhere"), State.REFUSED


Kind = Callable[[Random, str], tuple[WorkloadSpec, State]]

KINDS: tuple[tuple[Kind, int], ...] = (
    *((guest, 3), (gang, 3), (elastic, 2), (prime, 4), (single, 5), (array, 2)),
    *((either, 1), (stubborn, 1), (failing, 1), (endless, 1), (endpoint, 2), (astray, 1)),
)
"""Kinds of work, and how often each comes."""


def queues(nominal: int = 20) -> QueueTree:
    """Two queues that lend to each other, `nominal` H100 of the one and the rest of 40 of the other. No cap ever changes."""
    return QueueTree.model_validate(
        {
            "queues": [
                {"name": "company", "quotas": [{"sku": "h100", "nominal": 0, "cap": 44}]},
                {
                    "name": "research",
                    "parent": "company",
                    "quotas": [{"sku": "h100", "nominal": nominal, "cap": 40}, {"sku": "a100", "nominal": 10, "cap": 16}],
                },
                {
                    "name": "product",
                    "parent": "company",
                    "quotas": [{"sku": "h100", "nominal": 40 - nominal, "cap": 40}, {"sku": "a100", "nominal": 10, "cap": 16}],
                },
            ]
        }
    )


def policy(*, gentle: bool = True) -> Policy:
    """A policy that promises nothing and lets everybody be stopped at once; a gentle one shrinks and moves work first."""
    tiers = {
        tier: terms.model_copy(update={"guarantee": 0.0, "minimum_runtime_seconds": 0}) for tier, terms in Rank().tiers.items()
    }
    disruption = Disruption(shrink=gentle, migrate=gentle)
    return Policy(name="gentle" if gentle else "harsh", rank=Rank(tiers=tiers, disruption=disruption))
