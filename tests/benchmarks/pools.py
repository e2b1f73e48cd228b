"""Pools of any size for measurements: a fleet, a queue tree, work that runs, and work that waits; drawn from a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

from corral.api import WHOLE, QueueSpec, QuotaSpec, ReplicaGroup, Selection, SlaTier, State, Target, Topology, WorkloadSpec
from corral.policy import Policy
from domain.pool.fleet import Node, NodeShare, Placement, Replica, Room
from domain.pool.workload import Active, Waiting
from domain.snapshot import Snapshot
from tests.builders import NOON, a_node, ran, seconds

DEVICES = 8
NODES_PER_RACK = 8
RACKS_PER_BLOCK = 8
REGIONS = ("ap-south", "eu-west", "us-east", "us-west")
PRICES = {"a100": 1_800_000, "h100": 3_000_000, "b200": 5_000_000}
"""Millionths of a dollar per accelerator and hour, by SKU."""
COHORTS = 8
QUEUES_PER_COHORT = 6
WIDTHS = (1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 8, 16, 16, 32, 64)
"""Accelerators of a workload, as often as they stand here: many small ones, most of the demand in large ones."""
TEMPLATES_PER_QUEUE = 8
TIERS = (SlaTier.PREMIUM, *[SlaTier.STANDARD] * 4, *[SlaTier.BASIC] * 5)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a pool is: its accelerators, the part of them in use, and how many workloads wait."""

    accelerators: int
    used: float = 0.92
    waiting: int = 0

    @property
    def nodes(self) -> int:
        """Nodes of eight devices."""
        return self.accelerators // DEVICES


def a_pool(size: Size, seed: int = 0, policy: Policy | None = None) -> Snapshot:
    """A pool of this size."""
    random = Random(seed)
    fleet = a_fleet(size.nodes)
    nodes, active = a_load(random, fleet, size.used)
    waiting = tuple(the_waiting(random, size.waiting))
    return Snapshot(
        nodes=tuple(nodes),
        queues=tuple(a_tree(fleet)),
        waiting=waiting,
        active=tuple(active),
        policy=policy or Policy(),
        ledger={each.id: (ran(each),) for each in active},
    )


def a_fleet(number: int) -> list[Node]:
    """Nodes in blocks of racks, a block at a time in each region and of each SKU."""
    skus, per_block = tuple(PRICES), NODES_PER_RACK * RACKS_PER_BLOCK
    fleet = []
    for index in range(number):
        block, within = divmod(index, min(per_block, max(1, number // (len(REGIONS) * len(skus)))))
        region, sku = REGIONS[block % len(REGIONS)], skus[block // len(REGIONS) % len(skus)]
        rack = within // NODES_PER_RACK
        fleet.append(
            a_node(
                f"{region}-{sku}-{index:06}",
                sku=sku,
                region=region,
                price=PRICES[sku],
                topology=(("block", f"b{block:04}"), ("rack", f"b{block:04}-r{rack}")),
                cpu_milli=DEVICES * 16_000,
                memory_mib=DEVICES * 131_072,
            )
        )
    return fleet


def queue_names() -> list[str]:
    """The leaves of the tree."""
    return [f"c{cohort}-q{queue}" for cohort in range(COHORTS) for queue in range(QUEUES_PER_COHORT)]


def a_tree(fleet: Sequence[Node]) -> Iterator[QueueSpec]:
    """Cohorts of queues below one root, which own all of the fleet in equal parts and borrow from each other."""
    totals = {sku: DEVICES * sum(node.sku == sku for node in fleet) for sku in PRICES}
    own = tuple(QuotaSpec(sku=sku, nominal=total // len(queue_names())) for sku, total in totals.items())
    none = tuple(QuotaSpec(sku=sku, nominal=0) for sku in totals)
    yield QueueSpec(name="all", quotas=none)
    for cohort in range(COHORTS):
        yield QueueSpec(name=f"c{cohort}", parent="all", quotas=none)
    for name in queue_names():
        yield QueueSpec(name=name, parent=name.split("-")[0], weight=1 + len(name) % 3, quotas=own)


def a_spec(random: Random, id: str, width: int | None = None, *, sku: str | None = None) -> WorkloadSpec:
    """A workload of some width: on one node up to eight devices, else a gang, sometimes in one rack or near together."""
    width = width or random.choice(WIDTHS)
    count = max(1, width // DEVICES)
    accelerators = width // count if random.random() > 0.08 or width > 1 else 0.5
    per_device = 16_000 // 2
    group = ReplicaGroup(
        count=count,
        accelerators=accelerators,
        cpu_milli=int(per_device * max(1, accelerators)),
        memory_mib=int(65_536 * max(1, accelerators)),
    )
    return WorkloadSpec(
        id=id,
        queue=random.choice(queue_names()),
        tier=random.choice(TIERS),
        priority=random.choice((0, 0, 0, 5, 10)),
        groups=(group,),
        targets=_targets(random, sku),
        selection=random.choice((Selection.ORDERED, Selection.PRICED)),
        topology=_topology(random, count),
        preemptible=random.random() < 0.9,
        expected_seconds=3_600 * random.choice((1, 4, 24)),
    )


def _topology(random: Random, count: int) -> Topology:
    if count == 1 or random.random() < 0.4:
        return Topology()
    if count <= NODES_PER_RACK and random.random() < 0.5:
        return Topology(required="rack")
    return random.choice((Topology(preferred="rack"), Topology(required="block"), Topology(preferred="block")))


def _targets(random: Random, sku: str | None) -> tuple[Target, ...]:
    if sku is not None:
        return (Target(skus=(sku,)),)
    named = random.sample(tuple(PRICES), k=random.choice((1, 1, 2)))
    region = (random.choice(REGIONS),) if random.random() < 0.3 else ()
    return tuple(Target(skus=(name,), regions=region) for name in named)


def the_waiting(random: Random, number: int) -> Iterator[Waiting]:
    """Workloads that wait since some time of the last day; a queue's users ask for the same few things again and again.

    Who asks for the same shares it, as in what a planner reads of the store.
    """
    templates = [a_spec(random, "template") for _ in range(len(queue_names()) * TEMPLATES_PER_QUEUE)]
    for index in range(number):
        spec = random.choice(templates)
        yield Waiting(f"w{index:06}", spec, NOON - timedelta(seconds=random.randrange(86_400)))


def a_load(random: Random, fleet: Sequence[Node], used: float) -> tuple[list[Node], list[Active]]:
    """Work of all widths on so large a part of the fleet, node after node, and the nodes with what it leaves."""
    nodes, active, at = list[Node](), list[Active](), 0
    while at < len(fleet):
        if random.random() > used:
            number = 0
        elif (wide := random.choice(WIDTHS)) >= DEVICES:
            on = [
                node
                for node in fleet[at : at + wide // DEVICES]
                if (node.region, node.sku) == (fleet[at].region, fleet[at].sku)
            ]
            active.append(a_runner(random, f"r{len(active):06}", on, 0, DEVICES))
            nodes += [replace(node, free=_left(node, DEVICES)) for node in on]
            number = len(on)
        else:
            taken = 0
            while taken < DEVICES and random.random() < used:
                width = min(DEVICES - taken, random.choice((1, 2, 4)))
                active.append(a_runner(random, f"r{len(active):06}", fleet[at : at + 1], taken, width))
                taken += width
            nodes.append(replace(fleet[at], free=_left(fleet[at], taken)))
            number = 1
        nodes += () if number else (fleet[at],)
        at += max(1, number)
    return nodes, active


def _left(node: Node, taken: int) -> Room:
    return node.free - _share_of(node, 0, taken).room


def _share_of(node: Node, first: int, width: int, index: int = 0) -> NodeShare:
    devices = tuple(WHOLE if first <= device < first + width else 0 for device in range(DEVICES))
    replicas = (Replica("main", index, tuple(range(first, first + width))),) if width else ()
    return NodeShare(node.id, Room(devices, 8_000 * width, 65_536 * width), replicas)


def a_runner(random: Random, id: str, on: Sequence[Node], first: int, width: int) -> Active:
    """Work on these devices of each of some nodes since some hours."""
    node = on[0]
    spec = a_spec(random, id, width * len(on), sku=node.sku)
    began = NOON - seconds(random.randint(600, 80_000))
    shares = tuple(_share_of(each, first, width, index) for index, each in enumerate(on))
    placement = Placement(node.provider, node.region, node.sku, shares, 0)
    return Active(
        id=id,
        attempt_id=f"{id}.1",
        epoch=1,
        spec=spec,
        state=State.RUNNING,
        placement=placement,
        submitted_at=began,
        held_at=began,
        started_at=began,
        checkpoint_at=began + (NOON - began) / 2,
        hourly_cost=len(on) * width * WHOLE * node.price,
    )
