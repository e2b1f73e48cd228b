"""Where work goes, held against an oracle that tries every place: none is forbidden, missed, or dearer than another."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import NamedTuple

import pytest

from corral.api import CapacityType, Dataset, Selection, SlaTier, Target
from corral.policy import Constraints, Goals, Guests, Places, Policy, Preference, RegionScope, Scope, SkuScope, Transfers, Uses
from domain.decision import Refuse, Start
from domain.pool.fleet import Health, Node
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload, nodes_of, started

SKUS, REGIONS, PROVIDERS, TENANTS = ("a100", "h100"), ("eu", "us"), ("aws", "gcp"), ("acme", "zeta")
PATH = ("research", "company")
NAMES = {"skus": SKUS, "regions": REGIONS, "providers": PROVIDERS, "capacity_types": tuple(CapacityType), "tenants": TENANTS}
HOUR, MILLION = 3_600, 1_000_000
WORLDS = 40
"""Worlds of each seed."""


class Pool(NamedTuple):
    """A world with one workload of a single replica."""

    fleet: list[Node]
    workload: AWorkload
    policy: Policy
    datasets: list[Dataset]


def names(random: Random, kind: str, often: float) -> tuple[str, ...] | None:
    every = NAMES[kind]
    return tuple(random.sample(every, random.randint(1, len(every)))) if random.random() < often else None


def lists(random: Random, kinds: Sequence[str], often: float) -> dict[str, tuple[str, ...]]:
    return {kind: found for kind in kinds if (found := names(random, kind, often)) is not None}


def a_scope(random: Random, kinds: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {"allow": lists(random, kinds, 0.08), "deny": lists(random, kinds, 0.04)}


def constraints(random: Random) -> Constraints:
    return Constraints(
        platform=Scope.model_validate(a_scope(random, tuple(Places.model_fields))),
        regions={name: RegionScope.model_validate(a_scope(random, tuple(Guests.model_fields))) for name in ("eu", "us")},
        skus={"h100": SkuScope.model_validate(a_scope(random, tuple(Uses.model_fields)))},
        tenants={"acme": Scope.model_validate(a_scope(random, tuple(Places.model_fields)))},
        queues={name: Scope.model_validate(a_scope(random, tuple(Places.model_fields))) for name in PATH},
    )


def a_pool(random: Random) -> Pool:
    fleet = [
        a_node(
            f"n{index}",
            free=[random.choice((0, 500, 500, 1000, 1000)) for _ in range(random.randint(1, 3))],
            sku=random.choice((*SKUS, "h100")),
            provider=random.choice((*PROVIDERS, "aws")),
            region=random.choice(REGIONS),
            price=random.choice((0, 500_000, 1_000_000, 2_000_000)),
            capacity_type=random.choice(list(CapacityType)),
            health=random.choice((*[Health.READY] * 4, Health.CORDONED)),
            taints=random.choice(((), (), ("lab",))),
        )
        for index in range(random.randint(2, 6))
    ]
    kinds = tuple(Places.model_fields)
    targets = [Target.model_validate(lists(random, kinds, 0.3)) for _ in range(random.randint(0, 2))]
    favours = [found for _ in range(2) if (found := lists(random, kinds, 0.3))]
    preferences = [
        Preference.model_validate({"name": f"p{at}", "worth": random.choice((0.2, 1.5)), "queues": ("company",)} | found)
        for at, found in enumerate(favours)
    ]
    goals = Goals(
        waste=0,
        fragmentation=0,
        preferences=tuple(preferences),
        preference_limit=random.choice((1, 1_000)),
        transfers=Transfers.model_validate({"routes": {"eu": {"us": {"dollars_per_gib": 0.1}}}}),
    )
    workload = a_workload(
        gpus=random.choice((0.5, 0.5, 1, 2)),
        targets=targets,
        selection=random.choice(list(Selection)),
        tolerations=random.choice(((), ("lab",))),
        tenant=random.choice((None, *TENANTS)),
        datasets=random.choice(((), ("corpus",))),
        expected_seconds=random.choice((None, 0, 0, 10 * HOUR)),
        tier=random.choice(list(SlaTier)),
    )
    datasets = [Dataset(name="corpus", size_gib=random.choice((0.1, 500)), regions=names(random, "regions", 0.8) or ())]
    return Pool(fleet, workload, Policy(constraints=constraints(random), goals=goals), datasets)


# The oracle


def named(lists: object, values: Mapping[str, str | None]) -> set[bool]:
    """Whether the lists name the values, as far as they say anything of their kinds."""
    found = {kind: getattr(lists, kind, None) for kind in values}
    return {values[kind] in names for kind, names in found.items() if names}


def of(node: Node) -> dict[str, str | None]:
    return {"skus": node.sku, "regions": node.region, "providers": node.provider, "capacity_types": node.capacity_type}


def is_permitted(node: Node, pool: Pool) -> bool:
    rules, tenant = pool.policy.constraints, pool.workload.spec.tenant
    scopes: list[Scope | RegionScope | SkuScope | None] = [
        rules.platform,
        rules.regions.get(node.region),
        rules.skus.get(node.sku),
        rules.tenants.get(tenant or ""),
    ]
    scopes += [rules.queues.get(name) for name in PATH]
    values = of(node) | {"tenants": tenant}
    said = ((named(scope.allow, values), named(scope.deny, values)) for scope in scopes if scope is not None)
    return all(False not in allowed and True not in denied for allowed, denied in said)


def accepts(lists: object, node: Node) -> bool:
    """Whether each list that says anything names the node's."""
    return False not in named(lists, of(node))


def has_room(node: Node, free: Sequence[int], pool: Pool) -> bool:
    milli = pool.workload.spec.groups[0].milli
    return max(free) >= milli if milli < 1000 else list(free).count(1000) >= milli // 1000


def cost(node: Node, pool: Pool) -> float:
    """Dollars per accelerator and hour, by the formulas of docs/goals.md."""
    spec, goals, price = pool.workload.spec, pool.policy.goals, node.price / MILLION
    runs = max(1, HOUR if spec.expected_seconds is None else spec.expected_seconds)
    favoured = sum(each.worth for each in goals.preferences if accepts(each, node))
    lost = min(goals.hazard.lost_seconds, runs // 2) + spec.checkpoint.grace_seconds + 300 + 60
    hazard = (0.05 if node.capacity_type is CapacityType.SPOT else 0) * lost / HOUR * price
    dollars, waits = brought(node.region, pool)
    accelerator_hours = spec.groups[0].milli / 1000 * runs / HOUR
    egress, staging = min(dollars / accelerator_hours, 1_000), min(waits * price / runs, 1_000)
    return price - min(favoured, goals.preference_limit) + hazard + egress + staging


def brought(region: str, pool: Pool) -> tuple[float, float]:
    """Dollars and seconds that the data take."""
    (corpus,) = pool.datasets
    if not pool.workload.spec.datasets or not corpus.regions or region in corpus.regions:
        return 0, 0
    per_gib = min(0.1 if (source, region) == ("eu", "us") else 0.02 for source in corpus.regions)
    return per_gib * corpus.size_gib, corpus.size_gib


def places(pool: Pool, *, ever: bool) -> Iterator[tuple[int | None, Node]]:
    """All places that hold now, or could on an idle fleet, with the target that each answers."""
    spec = pool.workload.spec
    for at, target in enumerate(spec.targets) if spec.targets else [(None, Target())]:
        for node in pool.fleet:
            free = node.total.devices if ever else node.free.devices if node.health is Health.READY else (0,)
            tolerated = set(node.taints) <= set(spec.tolerations)
            if tolerated and accepts(target, node) and is_permitted(node, pool) and has_room(node, free, pool):
                yield at, node


@pytest.mark.parametrize("seed", range(5))
def test_work_goes_to_the_cheapest_place_that_it_may_have_and_waits_for_no_other_reason(seed: int) -> None:
    random, queues = Random(seed), [a_queue("company"), a_queue("research", parent="company")]
    queues[1] = queues[1].model_copy(update={"quotas": tuple(a_quota(100, sku=sku) for sku in SKUS)})
    for _ in range(WORLDS):
        pool = a_pool(random)
        plan = schedule(a_snapshot(pool.fleet, queues, pool.workload, policy=pool.policy, datasets=pool.datasets), NOON)
        (decision,) = plan.decisions
        now = list(places(pool, ever=False))
        assert isinstance(decision, Start) == bool(now)
        assert isinstance(decision, Refuse) == (not list(places(pool, ever=True)))
        if isinstance(decision, Start):
            (id,) = nodes_of(started(plan)["w"])
            if pool.workload.spec.selection is Selection.ORDERED:
                now = [each for each in now if each[0] == now[0][0]]
            costs = {node.id: cost(node, pool) for _, node in now}
            assert costs[id] <= min(costs.values()) + 0.00002
