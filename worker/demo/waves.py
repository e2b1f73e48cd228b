"""Waves: the bulk of the example mix, as a table of similar workloads that come within a stretch of time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from corral.api import Affinity, CapacityType, ReplicaGroup, Selection, SlaTier, Spread, Target, Topology, WorkloadSpec
from worker.demo.scenario import Arrival

PREMIUM, STANDARD, BASIC = SlaTier.PREMIUM, SlaTier.STANDARD, SlaTier.BASIC
H100, A100, L40S, ASCEND = "h100-80g", "a100-80g", "l40s-48g", "ascend-910c"

CHECKPOINT_EVERY_SECONDS = 600
CHECKPOINT_SECONDS = (5, 20, 45)
"""How long workloads take, in turn, to save their work on notice; with the usual grace of 30 s, the last ones cannot."""

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Wave:
    """`count` workloads that come and run for times drawn from these stretches, in seconds of the pool's time.

    Of queues, shapes and numbers of tasks, the next one is taken in turn.
    """

    kind: str
    count: int
    queues: tuple[str, ...]
    tier: SlaTier
    comes: tuple[int, int]
    runs: tuple[int, int]
    shapes: tuple[ReplicaGroup, ...]
    targets: tuple[Target, ...]
    tasks: tuple[int | None, ...] = (None,)
    selection: Selection = Selection.ORDERED
    topology: Topology = field(default_factory=Topology)
    datasets: tuple[str, ...] = ()

    def arrivals(self, random: Random) -> Iterator[Arrival]:
        """The workloads of the wave."""
        for number in range(self.count):
            runtime = random.randint(*self.runs)
            spec = WorkloadSpec(
                id=f"{self.kind}-{number:02d}",
                queue=_in_turn(self.queues, number),
                tenant=f"team-{random.randint(1, 6)}",
                tier=self.tier,
                priority=random.choice((0, 0, 0, 10)),
                groups=(_in_turn(self.shapes, number),),
                tasks=_in_turn(self.tasks, number),
                targets=self.targets,
                selection=self.selection,
                topology=self.topology,
                datasets=self.datasets,
                expected_seconds=runtime,
                parameters=behaviour(runtime, _in_turn(CHECKPOINT_SECONDS, number)),
                retries=3,
            )
            yield Arrival(round(random.uniform(*self.comes), 1), self.kind, spec)


def _in_turn(choices: Sequence[Choice], number: int) -> Choice:
    return choices[number % len(choices)]


def behaviour(runtime: int, checkpoint_seconds: int = 5, exit_code: int = 0) -> dict[str, str]:
    """Parameters of a simulated workload that saves its work regularly."""
    return {
        "runtime_seconds": str(runtime),
        "checkpoint_every_seconds": str(CHECKPOINT_EVERY_SECONDS),
        "checkpoint_seconds": str(checkpoint_seconds),
        "exit_code": str(exit_code),
    }


def gang(replicas: int, accelerators: float, minimum: int | None = None, *likes: Affinity) -> ReplicaGroup:
    """Replicas that start together."""
    cpu_milli = 2_000 if accelerators < 1 else 8_000
    return ReplicaGroup(count=replicas, accelerators=accelerators, minimum=minimum, cpu_milli=cpu_milli, affinities=likes)


def on(*skus: str, **more: object) -> Target:
    """A target on any of these SKUs."""
    return Target.model_validate({"skus": skus, **more})


FAST_NETWORK = Affinity(nodes={"network": ("infiniband",)}, worth=0.25)

SMALL = (
    Wave(
        *("notebook", 36, ("research", "interns"), BASIC, (0, 2900), (500, 1100)),
        shapes=(gang(1, 0.25), gang(1, 0.5)),
        targets=(on(L40S),),
    ),
    Wave(
        *("finetune", 65, ("research", "product"), STANDARD, (0, 2900), (600, 1500)),
        shapes=(gang(1, 1), gang(1, 2)),
        targets=(on(L40S, A100),),
        datasets=("dialogues",),
    ),
    Wave(
        *("sweep", 6, ("interns", "research"), BASIC, (200, 2000), (300, 600)),
        shapes=(gang(1, 1),),
        targets=(on(L40S),),
        tasks=(16, 32, 24),
    ),
    Wave(
        *("assistant", 20, ("product",), PREMIUM, (0, 2000), (1600, 2300)),
        shapes=(gang(1, 2), gang(2, 2), gang(1, 4)),
        targets=(on(L40S), on(A100)),
        topology=Topology(spread=Spread(level="node", maximum=1, worth=0.5)),
    ),
)
"""What comes all day: notebooks on shares of a device, fine-tuning, arrays, and services that promise much."""

FILLING = (
    Wave(
        *("pretrain", 9, ("research",), BASIC, (100, 500), (1300, 1800)),
        shapes=(gang(8, 8), gang(8, 8), gang(16, 8)),
        targets=(on(H100),),
    ),
    Wave(
        *("intern", 8, ("interns",), BASIC, (150, 600), (1300, 1900)),
        shapes=(gang(4, 8),),
        targets=(on(H100),),
    ),
    Wave(
        *("ablation", 14, ("research", "interns"), BASIC, (150, 700), (1500, 2100)),
        shapes=(gang(4, 8), gang(2, 8)),
        targets=(on(A100),),
    ),
    Wave(
        *("elastic", 8, ("research", "interns"), BASIC, (500, 1900), (800, 1400)),
        shapes=(gang(6, 16, minimum=1),),
        targets=(on(ASCEND),),
    ),
)
"""Borrowers: they fill the H100s and A100s beyond what their queues own, and elastic work takes what is left of the Ascends."""

TAKING_BACK = (
    Wave(
        *("flagship", 8, ("product",), PREMIUM, (1100, 1500), (1600, 2100)),
        shapes=(gang(16, 8), gang(4, 8), gang(2, 8), gang(2, 8), gang(8, 8), gang(2, 8), gang(2, 8), gang(2, 8)),
        targets=(on(H100),),
    ),
    Wave(
        *("urgent", 4, ("research",), PREMIUM, (1300, 1700), (1500, 2000)),
        shapes=(gang(8, 8), gang(4, 8)),
        targets=(on(A100),),
    ),
)
"""Owners come back with gangs of up to 128, and premium work goes before basic."""

CHOOSING = (
    Wave(
        *("either", 26, ("product", "research"), STANDARD, (0, 2900), (700, 1500)),
        shapes=(gang(1, 8), gang(2, 8)),
        targets=(on(H100, count=1), on(A100, count=2), on(ASCEND, count=2)),
        datasets=("web-corpus",),
    ),
    Wave(
        *("patient", 14, ("research", "product"), STANDARD, (300, 3000), (700, 1500)),
        shapes=(gang(2, 8), gang(1, 4)),
        targets=(on(H100, regions=["eu-west"]), on(H100, after_seconds=300), on(A100, ASCEND, after_seconds=600)),
    ),
    Wave(
        *("thrifty", 16, ("interns", "research"), BASIC, (0, 3000), (700, 1500)),
        shapes=(gang(1, 4), gang(1, 8)),
        targets=(on(A100, capacity_types=[CapacityType.SPOT]), on(A100, L40S)),
        selection=Selection.PRICED,
    ),
    Wave(
        *("ascend", 24, ("research", "product"), STANDARD, (0, 2700), (900, 1700)),
        shapes=(gang(1, 16), gang(2, 16)),
        targets=(on(ASCEND),),
    ),
    Wave(
        *("rack", 8, ("research", "product"), STANDARD, (100, 3000), (700, 1500)),
        shapes=(gang(4, 8), gang(2, 8)),
        targets=(on(H100), on(A100)),
        topology=Topology(required="rack"),
    ),
    Wave(
        *("block", 5, ("product",), STANDARD, (1000, 3000), (700, 1400)),
        shapes=(gang(3, 8, None, FAST_NETWORK),),
        targets=(on(H100), on(A100)),
        topology=Topology(preferred="block"),
    ),
)
"""Alternatives: another SKU and count, another region, more of both as time passes, the cheapest; one rack or block.

Data and a fast network draw some of them to one region."""

WAVES = (*SMALL, *FILLING, *TAKING_BACK, *CHOOSING)
