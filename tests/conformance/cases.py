"""The format `gpu-sched-case/1`, as far as Corral reads it: one case a line, amounts in accelerators, times in seconds."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Number = int | float

FOLDER = Path(os.environ.get("CORRAL_CASES") or Path(__file__).parents[3] / "shared" / "cases")
"""Where the cases are: the environment names the folder, or it lies beside the project."""


class Record(BaseModel):
    """Frozen; what Corral does not read is left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Taint(Record):
    """What a node repels."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    @property
    def repels(self) -> bool:
        """Whether it keeps work away, rather than asking it to stay away."""
        return self.effect != "PreferNoSchedule"


class Toleration(Record):
    """What a replica puts up with; empty fields match anything."""

    key: str = ""
    op: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint does not keep the replica away (Kubernetes' rule)."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.op == "Exists":
            return not self.key or self.key == taint.key
        return (self.key, self.value) == (taint.key, taint.value)


class Sku(Record):
    """A class of accelerators; every node of it has its labels and taints."""

    id: str
    labels: dict[str, str] = {}
    taints: list[Taint] = []
    tolerations: list[Toleration] = []
    topology: list[str] = []


class Node(Record):
    """One machine."""

    id: str
    sku: str
    gpus: Number
    labels: dict[str, str] = {}
    taints: list[Taint] = []
    topology: dict[str, str] = {}
    max_pods: int | None = None
    ready: bool = True
    schedulable: bool = True
    foreign_gpus: Number = 0


class Cluster(Record):
    """Nodes of one region."""

    id: str
    nodes: list[Node]


class Region(Record):
    """Clusters that lie together."""

    id: str
    clusters: list[Cluster]


class Fleet(Record):
    """The supply; `topology_levels` from wide to narrow."""

    mode: Literal["quota-only", "physical"]
    regions: list[Region]
    skus: list[Sku]
    topology_levels: list[str] = []


class Quota(Record):
    """Quota of one queue for one SKU; a nominal of none is unlimited."""

    sku: str
    nominal: Number | None = 0
    borrowing_limit: Number | None = None
    lending_limit: Number | None = None
    limit: Number | None = None
    over_quota_weight: Number | None = None


class BorrowPreempt(Record):
    """Kueue's `borrowWithinCohort`."""

    policy: str = "Never"
    max_priority: int | None = None


class Preempt(Record):
    """Kueue's preemption of one queue."""

    within_queue: str = "Never"
    reclaim_within_cohort: str = "Never"
    borrow_within_cohort: BorrowPreempt = BorrowPreempt()


class Fungibility(Record):
    """Kueue's `flavorFungibility`."""

    when_can_borrow: str = "MayStopSearch"
    when_can_preempt: str = "TryNextFlavor"
    preference: str | None = None


class Queue(Record):
    """A queue, or a cohort above queues."""

    id: str
    kind: Literal["queue", "cohort"] = "queue"
    parent: str | None = None
    sku_order: list[str] = []
    quota: list[Quota] = []
    weight: float | None = None
    priority: int | None = None
    created_at: float | None = None
    preemption: Preempt | None = None
    fungibility: Fungibility | None = None
    ordering: str = "BestEffortFIFO"
    reclaim_min_runtime_s: float | None = None
    preempt_min_runtime_s: float | None = None
    demand: float | None = None
    open: bool = True
    preemptible: bool = True


class Topo(Record):
    """Where the replicas of a group must or should lie."""

    mode: Literal["required", "preferred", "unconstrained"]
    level: str | None = None
    preferred_level: str | None = None
    slice_level: str | None = None
    slice_size: int | None = None


class PodGroup(Record):
    """Identical replicas."""

    name: str = "main"
    count: int = 1
    min_count: int | None = None
    gpus_per_pod: Number
    sku: str | None = None
    allowed_skus: list[str] | None = None
    node_selector: dict[str, list[str]] = {}
    node_names: list[str] | None = None
    tolerations: list[Toleration] = []
    topology: Topo | None = None
    preemptible: bool = True
    colocate_group: str | None = None


class Place(Record):
    """Replicas of a group in one place; without a node the source does not say on which."""

    group: str = "main"
    count: int
    sku: str
    node: str | None = None
    domain: dict[str, str] = {}


class Workload(Record):
    """Work that runs or waits."""

    id: str
    queue: str
    priority: int = 0
    preemptible: bool = True
    gang: bool = True
    min_pods: int | None = None
    groups: list[PodGroup]
    created_at: float = 0
    started_at: float | None = None
    tie_key: str | None = None
    placement: list[Place] = []
    evicting: bool = False
    preemption_delay_s: float | None = None


class Admit(Record):
    """Work that shall start; unless `asserted`, the source implies it and does not check it."""

    id: str
    after_preemption: bool = False
    asserted: bool = True
    victims: int | None = None
    counts: dict[str, int] = {}
    placement: list[Place] = []


class Expect(Record):
    """What the source expects."""

    admitted: list[Admit] = []
    preempted: list[str] = []
    shrunk: dict[str, int] = {}
    evicted_groups: dict[str, list[str]] = {}
    grown: dict[str, int] = {}
    moved: list[str] = []
    pending: list[str] = []
    pending_asserted: bool = True
    deferred: list[str] = []
    running: list[str] = []
    final_placement: dict[str, list[Place]] = {}
    fair_share: dict[str, float] = {}
    unallocated: float | None = None
    interchangeable: list[list[str]] = []


class Case(Record):
    """One situation, the policy it is judged by, and what is expected."""

    id: str
    horizon: Literal["incoming-decision", "one-pass", "one-action", "steady-state", "placement", "share"]
    policy: dict[str, Any] = {}
    fleet: Fleet
    queues: list[Queue]
    running: list[Workload] = []
    pending: list[Workload] = []
    expect: Expect

    @property
    def nodes(self) -> list[Node]:
        """All nodes of the fleet."""
        return [node for region in self.fleet.regions for cluster in region.clusters for node in cluster.nodes]


def all_cases(folder: Path = FOLDER) -> Iterator[tuple[str, Case]]:
    """Each case of a folder with the stem of the file that it comes from; none where there is no such folder."""
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            if line.strip():
                yield file.stem, Case.model_validate_json(line)
