"""The example mix: 300 workloads that borrow, relax, fail, are refused and run for real; the same for the same seed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from corral.api import Catalogue, QueueSpec, QueueTree, QuotaSpec, ReplicaGroup, SlaTier, State, Target, WorkloadSpec
from corral.cli.documents import read_documents
from corral.policy import Disruption, DisruptionBudget, Limits, Policy, Rank
from worker.demo.scenario import SUCCEEDS, Arrival, Deed, Scenario, Verb
from worker.demo.waves import A100, ASCEND, H100, L40S, WAVES, behaviour, gang, on
from worker.fleet_file import DEFAULT_FLEET, EXAMPLES, read_fleet

SEED = 42
CLOCK_SPEED = 45.0
EXAMPLE_QUEUES, EXAMPLE_DATASETS = EXAMPLES / "queues.yaml", EXAMPLES / "datasets.yaml"
OUTPUT_VARIABLE = "DEMO_OUTPUT"
"""Names the file in which a real process leaves what the report shows of it."""

FAILS, IS_REFUSED, IS_CANCELLED = frozenset({State.FAILED}), frozenset({State.REFUSED}), frozenset({State.CANCELLED})
LOCAL = "local-process"


def showcase(output: Path, seed: int = SEED) -> Scenario:
    """The scenario of `make demo`; real processes write below `output`."""
    random = Random(seed)
    arrivals = [arrival for wave in WAVES for arrival in wave.arrivals(random)]
    arrivals += [*_with_a_story(), *_impossible(), *_real(output)]
    return Scenario(
        title="300 workloads of three tiers on 2,300 simulated accelerators and this machine",
        clock_speed=CLOCK_SPEED,
        fleet=read_fleet(DEFAULT_FLEET),
        queues=QueueTree(queues=(*read_documents([str(EXAMPLE_QUEUES)], QueueTree)[0].content.queues, GRANTS)),
        arrivals=tuple(sorted(arrivals, key=lambda arrival: (arrival.at, arrival.spec.id))),
        deeds=tuple(sorted(DEEDS, key=lambda deed: deed.at)),
        data=read_documents([str(EXAMPLE_DATASETS)], Catalogue)[0].content,
    )


def _single(id: str, runtime: int, *, queue: str = "research", target: Target | None = None, **more: object) -> WorkloadSpec:
    given = {"queue": queue, "targets": (target or on(L40S, A100),), "parameters": behaviour(runtime), "retries": 3, **more}
    return WorkloadSpec.model_validate({"id": id, **given})


GRANTS = QueueSpec(
    name="grants",
    quotas=(
        QuotaSpec(sku=L40S, nominal=0),
        QuotaSpec(sku=L40S, nominal=16, valid_from=datetime(2100, 1, 1, tzinfo=UTC)),
    ),
)
"""A queue of its own that nobody lends anything, with a grant that begins in a far year."""

GENTLE = Policy(
    name="gentle",
    rank=Rank(disruption=Disruption(shrink=True, migrate=True)),
    limits=Limits(disruption_budgets=(DisruptionBudget(tier=SlaTier.STANDARD, stops=20),)),
)
"""Let elastic work give back its surplus, and work move, before anything is stopped; and stop little of one tier."""


def _with_a_story() -> Iterator[Arrival]:
    """Workloads to which `DEEDS` are done, and some that end in a way of their own."""
    yield Arrival(300, "story", _single("cancelled-while-it-runs", 4000), IS_CANCELLED)
    never_yet = on(H100, after_seconds=80_000)
    yield Arrival(400, "story", _single("cancelled-while-it-waits", 600, target=never_yet), IS_CANCELLED)
    yield Arrival(200, "story", _single("held-and-released", 1800))
    yield Arrival(500, "story", _single("held-before-it-starts", 900, target=on(H100, after_seconds=900)))
    yield Arrival(600, "story", _single("on-a-drained-node", 2200, groups=(gang(2, 8),), target=on(A100)))
    yield Arrival(250, "story", _single("on-a-lost-node", 2400, groups=(gang(2, 8),), target=on(ASCEND)))
    waits = on(A100, after_seconds=700)
    yield Arrival(700, "story", _single("resized-while-it-waits", 900, groups=(gang(4, 8),), target=waits))
    yield Arrival(700, "story", _single("moved-up-while-it-waits", 900, target=waits))
    yield Arrival(500, "story", _single("waits-for-quota", 900, queue=GRANTS.name, groups=(gang(1, 4),), target=on(L40S)))
    yield Arrival(350, "story", _single("longer-than-allowed", 3000, maximum_runtime_seconds=900), FAILS)
    crashing = behaviour(300, exit_code=137)
    yield Arrival(450, "story", _single("fails-every-time", 300, parameters=crashing, retries=2), FAILS)


DEEDS = (
    Deed(800, Verb.HOLD, "held-and-released", "an operator looks into it"),
    Deed(1500, Verb.RELEASE, "held-and-released", "it was fine"),
    Deed(700, Verb.HOLD, "held-before-it-starts", "its data is not ready"),
    Deed(1600, Verb.RELEASE, "held-before-it-starts", "its data is ready"),
    Deed(1000, Verb.CANCEL, "cancelled-while-it-runs", "no longer needed"),
    Deed(1100, Verb.CANCEL, "cancelled-while-it-waits", "submitted by mistake"),
    Deed(1000, Verb.RESIZE, "resized-while-it-waits", "half of it will do", amount=2),
    Deed(1000, Verb.REPRIORITIZE, "moved-up-while-it-waits", "needed for a release", amount=50),
    Deed(1300, Verb.LOSE_NODE, "on-a-lost-node", "a power supply fails"),
    Deed(2300, Verb.RECOVER_NODE, "on-a-lost-node", "it was replaced"),
    Deed(750, Verb.ASK_WHY, "", "somebody wants to know"),
    Deed(900, Verb.FOLLOW_FIX, "waits-for-quota", "its project has been approved"),
    Deed(950, Verb.APPLY_POLICY, "", "shrink and move work before any is stopped", policy=GENTLE),
    Deed(1400, Verb.ASK_WHY, "", "somebody wants to know"),
    Deed(2000, Verb.ASK_WHY, "", "somebody wants to know"),
    Deed(1700, Verb.DRAIN, "on-a-drained-node", "new firmware"),
    Deed(2600, Verb.UNCORDON, "on-a-drained-node", "the firmware is installed"),
)


def _impossible() -> Iterator[Arrival]:
    """Workloads that can never run, each for a reason of its own."""
    whole_nodes = gang(2, 8)
    specs = (
        _single("no-such-sku", 600, target=on("b300-288g")),
        _single("no-such-region", 600, target=on(H100, regions=["ap-south"])),
        _single("no-such-queue", 600, queue="marketing"),
        _single("no-quota-for-it", 600, queue="tools", target=on(H100)),
        _single("beyond-the-cap", 600, queue="interns", groups=(gang(17, 8),), target=on(A100)),
        _single("beyond-what-is-owned", 600, queue="interns", groups=(whole_nodes,), target=on(H100), preemptible=False),
        _single("larger-than-a-node", 600, groups=(gang(1, 16),), target=on(H100)),
        _single("larger-than-a-rack", 600, groups=(gang(16, 8),), target=on(H100), topology={"required": "rack"}),
    )
    for number, spec in enumerate(specs):
        yield Arrival(150 + 180 * number, "impossible", spec, IS_REFUSED)


def _real(output: Path) -> Iterator[Arrival]:
    """Processes on this machine. Their sleep is the wall's."""
    tell = f'echo "attempt $CORRAL_EPOCH, replica $CORRAL_REPLICA: devices $CORRAL_DEVICES" >> "${OUTPUT_VARIABLE}"'
    for number in range(5):
        yield _process(output, f"shell-{number}", 300 + 600 * number, f"{tell}; sleep 1.5")
    yield _process(output, "python", 500, "", command=("python3", "-c", _PYTHON))
    yield _process(output, "two-replicas", 900, f"{tell}; sleep 2", groups=(ReplicaGroup(count=2),))
    yield _process(output, "half-a-device", 1100, f"{tell}; sleep 2", groups=(ReplicaGroup(accelerators=0.5),))
    yield _process(output, "fails-at-first", 1500, f'{tell}; sleep 0.5; test "$CORRAL_EPOCH" -gt 1', retries=1)
    yield _process(output, "exits-with-3", 1900, f"{tell}; sleep 0.5; exit 3", ends=FAILS)


_PYTHON = (
    "import os, time; time.sleep(1);"
    f" print('python sees devices', os.environ['CORRAL_DEVICES'], file=open(os.environ['{OUTPUT_VARIABLE}'], 'a'))"
)


def _process(output: Path, name: str, at: float, script: str, *, ends: frozenset[State] = SUCCEEDS, **more: object) -> Arrival:
    given = {"command": ("sh", "-c", script), "environment": {OUTPUT_VARIABLE: str(output / f"{name}.txt")}, **more}
    spec = {"id": f"real-{name}", "queue": "tools", "targets": (on(LOCAL),), **given}
    return Arrival(at, "real", WorkloadSpec.model_validate(spec), ends)
