"""Random pools in which many ask for the same few things."""

from random import Random

from corral.api import Ordering, QueuePreemption, QueueSpec, Reclaim, SlaTier, WithinQueue
from corral.policy import Cohorts, Deserved, Limits, Policy, QuotaModel, Rank, TierPolicy
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.conformance.running import settled


def a_policy(random: Random, model: QuotaModel) -> Policy:
    return Policy(
        rank=Rank(
            quota_model=model,
            cohorts=Cohorts(fair_sharing=random.random() < 0.5),
            deserved=Deserved(scenarios=20),
            tiers={tier: TierPolicy(guarantee=0, minimum_runtime_seconds=0) for tier in SlaTier},
        ),
        limits=Limits(
            starts_per_round=random.choice((None, None, 3)), starts_per_queue_and_round=random.choice((None, None, 2))
        ),
    )


def a_tree(random: Random, leaves: list[str]) -> list[QueueSpec]:
    """Departments below one root, or each a root, and queues in them, some of which are strict."""
    root = random.choice((None, "all"))
    above = [a_queue("all", random.choice((0, 4)))] if root else []
    departments = [a_queue(name, random.choice((0, 2, 6)), parent=root) for name in "ab"]
    return [*above, *departments, *(_leaf(random, name) for name in leaves)]


def _leaf(random: Random, name: str) -> QueueSpec:
    nominal = random.randint(0, 5)
    cap = random.choice((None, None, nominal + random.randint(0, 4)))
    queue = a_queue(name, nominal, parent=name[0], cap=cap, over_quota_weight=random.randint(0, 2))
    policy = QueuePreemption(reclaim_within_cohort=random.choice(list(Reclaim)), within_queue=random.choice(list(WithinQueue)))
    ordering = random.choice(list(Ordering))
    return queue.model_copy(update={"priority": random.choice((0, 0, 1)), "preemption": policy, "ordering": ordering})


def a_crowd(random: Random, model: QuotaModel) -> Snapshot:
    """Work that runs where a first round put it, and many who ask for the same few things."""
    policy, leaves = a_policy(random, model), ["a1", "a2", "b1"][: random.randint(1, 3)]
    fleet = [a_node(f"n{n}", gpus=4, topology=(("rack", f"r{n // 2}"),)) for n in range(random.randint(1, 4))]
    tree = a_tree(random, leaves)

    def work(id: str, kind: int) -> AWorkload:
        asks = Random(kind)
        count = asks.choice((1, 1, 2, 3))
        return a_workload(
            id,
            queue=asks.choice(leaves),
            gpus=asks.choice((0.5, 1, 1, 2, 3)),
            count=count,
            minimum=asks.choice((None, asks.randint(1, count))),
            priority=asks.choice((0, 0, 1, 2)),
            preemptible=asks.random() < 0.7,
            preemption_delay_seconds=asks.choice((0, 0, 150)),
            required=asks.choice((None, None, "rack")),
            submitted_at=NOON - seconds(random.randint(0, 300)),
        )

    kinds = [random.randrange(10**6) for _ in range(random.randint(1, 5))]
    earlier = a_snapshot(
        fleet, tree, *(work(f"r{n}", random.randrange(10**6)) for n in range(random.randint(0, 8))), policy=policy
    )
    running = [each for each in settled(earlier, schedule(earlier, NOON), NOON).active if random.random() < 0.7]
    waiting = [work(f"w{n:02}", random.choice(kinds)) for n in range(random.randint(5, 40))]
    return a_snapshot(fleet, tree, *running, *waiting, policy=policy)
