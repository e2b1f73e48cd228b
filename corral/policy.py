"""The policy: everything that operators may tune, as one typed, versioned and hashed document in four strata."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from corral.api import CapacityType, Identifier, Model, PlaceKind, Seconds, ShortText, SlaTier

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]
"""Dollars per accelerator and hour."""

Names = Annotated[tuple[Identifier, ...], Field(min_length=1)]
CapacityTypes = Annotated[tuple[CapacityType, ...], Field(min_length=1)]


class QuotaModel(StrEnum):
    """Which rules divide the pool: see docs/decisions/quota-models.md."""

    RANKED = "ranked"
    COHORTS = "cohorts"
    DESERVED = "deserved"


class FairPreemption(StrEnum):
    """When a queue may take from another by fair share (Kueue's two strategies)."""

    LESS_THAN_OR_EQUAL_TO_FINAL_SHARE = "less-than-or-equal-to-final-share"
    LESS_THAN_INITIAL_SHARE = "less-than-initial-share"


class Action(StrEnum):
    """What a round of the quota model `deserved` does: start on free capacity, move work, take back, stop lower work.

    `enforce` stops work of queues above their cap, as after a cap was lowered, though never more than the excess.
    """

    ALLOCATE = "allocate"
    CONSOLIDATE = "consolidate"
    RECLAIM = "reclaim"
    PREEMPT = "preempt"
    ENFORCE = "enforce"


class TopologyProfile(StrEnum):
    """How a domain is chosen among those that fit: the fullest, the fullest or (unconstrained) the emptiest, or evenly.

    `packed` takes the fullest branch at every level from the widest down, and there node by node from the fullest (KAI).
    """

    BEST_FIT = "best-fit"
    MIXED = "mixed"
    BALANCED = "balanced"
    PACKED = "packed"

    @property
    def ranks_unconstrained(self) -> bool:
        """Whether it has a rule for work that asks for no topology."""
        return self in {TopologyProfile.MIXED, TopologyProfile.BALANCED}


class Places(Model):
    """Lists of places. What an `allow` does not list is refused, what a `deny` lists is; an absent list says nothing."""

    skus: Names | None = None
    regions: Names | None = None
    providers: Names | None = None
    capacity_types: CapacityTypes | None = None


class Scope(Model):
    """Where work may go: everybody's, a tenant's, or that of a queue and all queues below it.

    Residency is an `allow` of regions.
    """

    allow: Places = Places()
    deny: Places = Places()


class Guests(Model):
    """Lists of whom and what a region takes."""

    skus: Names | None = None
    providers: Names | None = None
    capacity_types: CapacityTypes | None = None
    tenants: Names | None = None


class RegionScope(Model):
    """What a region takes: which SKUs are used there, whose work, bought how."""

    allow: Guests = Guests()
    deny: Guests = Guests()


class Uses(Model):
    """Lists of where and for whom a SKU is used."""

    regions: Names | None = None
    providers: Names | None = None
    capacity_types: CapacityTypes | None = None
    tenants: Names | None = None


class SkuScope(Model):
    """Export rules: where a SKU may be used, and by whom."""

    allow: Uses = Uses()
    deny: Uses = Uses()


class Constraints(Model):
    """Stratum 1: what is never done. All scopes that concern a workload hold together, and a `deny` wins over every `allow`.

    So a scope only tightens what the wider ones leave: platform, then regions and SKUs, then tenants, then queues.
    """

    platform: Scope = Scope()
    regions: Mapping[Identifier, RegionScope] = {}
    skus: Mapping[Identifier, SkuScope] = {}
    tenants: Mapping[Identifier, Scope] = {}
    queues: Mapping[Identifier, Scope] = {}


class TierPolicy(Model):
    """The promise and the protection of one tier: guaranteed GPU fraction (0 to 1), seconds before a preemption."""

    guarantee: Share
    minimum_runtime_seconds: Seconds
    preemption_delay_seconds: Seconds = 0
    """Work of the tier has waited that long before anything is stopped for it, or as long as it asks for itself."""


class DisruptionBudget(Model):
    """At most `stops` forced stops or moves in any `period_seconds`, of what `queue` and `tier` select; absent ones: all."""

    queue: Identifier | None = None
    tier: SlaTier | None = None
    stops: Annotated[StrictInt, Field(ge=0, le=10**6)]
    period_seconds: Annotated[Seconds, Field(ge=1)] = 3_600


class Limits(Model):
    """Stratum 2: what is never exceeded, beside the quotas of the queue tree."""

    sku_classes: Mapping[Identifier, tuple[Identifier, ...]] = {}
    disruption_budgets: tuple[DisruptionBudget, ...] = ()
    failure_domain: Identifier | None = "node"
    """Guarantees are sold up to ready capacity less its largest domain of this level (node, cluster, region or a level of the
    topology); none: they are sold without limit."""
    starts_per_round: Annotated[StrictInt, Field(ge=1)] | None = None
    starts_per_queue_and_round: Annotated[StrictInt, Field(ge=1)] | None = None
    maximum_preemptions: Annotated[StrictInt, Field(ge=0, le=1_000)] = 5
    """A workload stopped that often for others in the last 24 hours is no victim: bounded waiting for everybody."""
    departure_seconds: Seconds = 60
    """So long before its nodes are needed for a reservation work is told to leave, beside its grace: until it is seen gone."""
    shortest_loan_seconds: Seconds = 600
    """What is kept for a reservation is lent to work that may be preempted if it has at least so long before it is told."""


class Cohorts(Model):
    """What the quota model `cohorts` does: Kueue's rules over the queues' own `preemption` and `fungibility`."""

    fair_sharing: StrictBool = False
    fair_preemption: tuple[FairPreemption, ...] = (
        FairPreemption.LESS_THAN_OR_EQUAL_TO_FINAL_SHARE,
        FairPreemption.LESS_THAN_INITIAL_SHARE,
    )
    recompute_placement_within_pass: StrictBool = True
    """Whether work whose nodes another took in the same pass looks for others at once, or only in the next pass."""


class Deserved(Model):
    """What the quota model `deserved` does: KAI's rules over nominal (deserved), cap and over-quota weight."""

    actions: Annotated[tuple[Action, ...], Field(min_length=1)] = (
        Action.ALLOCATE,
        Action.CONSOLIDATE,
        Action.RECLAIM,
        Action.PREEMPT,
    )
    """What is done in a round, in this order: the least disruptive first."""
    consolidated_workloads: Annotated[StrictInt, Field(ge=1, le=10_000)] = 16
    """At most so many workloads are considered for moves that make room for one."""
    priority_gap: Annotated[StrictInt, Field(ge=1, le=2_000)] = 1
    """By how much the priority of work must be lower than that for which it is stopped, in one queue and tier."""
    scenarios: Annotated[StrictInt, Field(ge=1, le=100_000)] = 64
    """At most so many sets of victims are tried for one workload, action and size."""

    @model_validator(mode="after")
    def _each_action_once(self) -> Self:
        if len(set(self.actions)) < len(self.actions):
            raise ValueError("actions: one is named twice; expected each at most once, in the order in which they are tried")
        return self


class Exactness(Model):
    """How far the least disruption is looked for, beyond what a greedy pass finds. With `nodes` 0 it is not."""

    nodes: Annotated[StrictInt, Field(ge=0, le=1_000)] = 32
    """The most nodes on which plans are compared: those that look cheapest to clear."""
    work: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 0.1
    """The most work for one plan, in the solver's deterministic seconds: about as many real ones, but the same everywhere."""
    round_work: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = 0.05
    """The same for all plans of a round together; those after are left as the greedy pass found them."""


class Disruption(Model):
    """What the quota model `ranked` may do to running work for work that waits, from the mildest to the harshest.

    Where less is not enough and more is not allowed, the work that waits goes on waiting.
    """

    shrink: StrictBool = True
    migrate: StrictBool = True
    stop: StrictBool = True
    searches: Annotated[StrictInt, Field(ge=1, le=100_000)] = 32
    """For so many workloads at most something to disturb is looked for in one round; the next one goes on."""
    exact: Exactness = Exactness()


class Fairness(Model):
    """How past use beyond nominal counts when what is left is divided (quota model `ranked`); nominal is never touched by it.

    A queue's part W of the weights becomes max(W + history_weight * (W - U), 0), where U is what it used beyond its nominal
    as a part of the capacity that was there, both weighing half as much after every half-life.
    """

    history_weight: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1.0
    half_life_seconds: Annotated[Seconds, Field(ge=3_600)] = 604_800
    entry_penalty_seconds: Seconds = 300
    """A gang that starts counts at once as having used what it has for so long, as far as that is beyond nominal, until past
    use is summed up (every five minutes) after it has really used that much; 0: only what was used counts."""

    @property
    def charged_seconds(self) -> int:
        """For how many seconds of use a gang that starts is charged; 0 where past use does not count."""
        return self.entry_penalty_seconds if self.history_weight else 0


class AttainedStep(Model):
    """What has run for so long, in all attempts together, ranks within its tier as if its priority were so much lower."""

    after_seconds: Annotated[Seconds, Field(ge=1)]
    lowers_priority_by: Annotated[StrictInt, Field(ge=1, le=2_000)]


class Rank(Model):
    """Stratum 3: whose turn it is, and who may be stopped for whom."""

    quota_model: QuotaModel = QuotaModel.RANKED
    cohorts: Cohorts = Cohorts()
    deserved: Deserved = Deserved()
    tiers: Mapping[SlaTier, TierPolicy] = {
        SlaTier.PREMIUM: TierPolicy(guarantee=0.95, minimum_runtime_seconds=0),
        SlaTier.STANDARD: TierPolicy(guarantee=0.70, minimum_runtime_seconds=600),
        SlaTier.BASIC: TierPolicy(guarantee=0.0, minimum_runtime_seconds=300),
    }
    preemption: StrictBool = True
    fairness: Fairness = Fairness()
    ageing_seconds_per_priority: Annotated[Seconds, Field(ge=1)] | None = 86_400
    """Waiting that long counts as one more of priority when turns are taken; none: priority never ages."""
    attained_service: Annotated[tuple[AttainedStep, ...], Field(max_length=16)] = ()
    """By how much the priority falls of what has run for long, whatever is read of priorities; endpoints are spared."""
    restart_seconds: Seconds = 60
    """Until work that was stopped or moved is again where it was when it was last saved: part of the cost of a stop."""
    requeue_seconds: Seconds = 300
    """How long work that was stopped is expected to wait for another place: part of the cost of a stop."""
    crash_loop_failures: Annotated[StrictInt, Field(ge=1, le=1_000)] = 3
    """Nothing is stopped for a workload whose last so many attempts all failed by themselves."""
    disruption: Disruption = Disruption()

    @field_validator("attained_service")
    @classmethod
    def _one_after_the_other(cls, steps: tuple[AttainedStep, ...]) -> tuple[AttainedStep, ...]:
        for before, after in pairwise(steps):
            if after.after_seconds <= before.after_seconds:
                said = f"after_seconds {after.after_seconds} follows {before.after_seconds}"
                raise ValueError(f"{said}; expected each step to come later than the one before it")
        return steps

    @field_validator("tiers")
    @classmethod
    def _every_tier(cls, tiers: Mapping[SlaTier, TierPolicy]) -> Mapping[SlaTier, TierPolicy]:
        if missing := [tier for tier in SlaTier if tier not in tiers]:
            raise ValueError(f"{', '.join(missing)} missing; each of the three tiers needs a guarantee and a minimum runtime")
        return tiers


class Preference(Model):
    """Work of these queues (with all below them) and tiers is as well off on such capacity as if it cost `worth` less.

    An absent list selects everything; capacity must match every list that is there.
    """

    name: Identifier
    queues: Names | None = None
    tiers: Annotated[tuple[SlaTier, ...], Field(min_length=1)] | None = None
    skus: Names | None = None
    regions: Names | None = None
    providers: Names | None = None
    capacity_types: CapacityTypes | None = None
    worth: Annotated[Dollars, Field(gt=0)]

    @model_validator(mode="after")
    def _prefers_something(self) -> Self:
        if not (self.skus or self.regions or self.providers or self.capacity_types):
            raise ValueError("prefers nothing; expected at least one of skus, regions, providers and capacity_types")
        return self


class Improvement(Model):
    """How far a better plan is looked for once all turns were taken (quota model `ranked`). With `work` 0 it is not."""

    work: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.1
    """The most work for one round, in the solver's deterministic seconds: about as many real ones, but the same everywhere."""
    nodes: Annotated[StrictInt, Field(ge=2, le=1_000)] = 32
    """The most nodes on which plans are compared for one workload."""
    worth: Dollars = 1.0
    """How much more an accelerator that starts besides may cost those that start elsewhere for it."""


Weight = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]
DollarsPerGib = Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)]
GibPerSecond = Annotated[float, Field(gt=0, le=10**6, allow_inf_nan=False)]


class Goal(Model):
    """What a dollar of a term counts, and the most that the whole term counts, whichever way."""

    weight: Weight = 1.0
    limit: Dollars = 1_000.0


class Route(Model):
    """What it takes to bring data from one region to another; what is absent is as between any other two."""

    dollars_per_gib: DollarsPerGib | None = None
    gib_per_second: GibPerSecond | None = None


class Transfers(Model):
    """What it takes to bring data into a region that has no replica of it: from any region, or on a route of its own.

    Routes are by the region with the replica, and then by the region that lacks it. Data come from where they come cheapest,
    among equals fastest.
    """

    dollars_per_gib: DollarsPerGib = 0.02
    gib_per_second: GibPerSecond = 1.0
    routes: Mapping[Identifier, Mapping[Identifier, Route]] = {}


class Hazard(Goal):
    """What interruptions cost that a way of buying brings with it: how many come an hour, and what each loses.

    `lost_seconds` is the work that one loses at most, beside the workload's grace and the policy's restart and requeue: half of
    the workload's length where that is less.
    """

    interruptions_per_hour: Mapping[CapacityType, Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]] = {
        CapacityType.SPOT: 0.05
    }
    lost_seconds: Seconds = 1_800


class Defragmentation(Model):
    """How far running work is moved, for nobody in particular, so that more of what is free can be used (`ranked`).

    Only work that is known to have saved its state is moved; with `moves_at_once` 0 none is.
    """

    moves_at_once: Annotated[StrictInt, Field(ge=0, le=1_000)] = 4
    """At most so many moves are under way at a time, for whomever."""
    horizon_seconds: Annotated[Seconds, Field(ge=1)] = 3_600
    """For so long what a move gains is expected to last, or until the work that moves is over."""
    daily_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.005
    """What moves may cost in any 24 hours, as a part of the accelerator-hours that ready nodes have in that time."""


class Goals(Model):
    """Stratum 4: what is preferred, in dollars per accelerator and hour."""

    topology: TopologyProfile = TopologyProfile.BEST_FIT
    price_weight: Annotated[float, Field(ge=0, le=1_000, allow_inf_nan=False)] = 1.0
    """What a dollar of price counts."""
    price_limit: Dollars = 1_000.0
    """The most that price counts."""
    waste: Dollars = 0.01
    """What a node left wholly free beside the gang costs: a cent decides between equal prices and hardly ever more."""
    fragmentation: Dollars = 0.01
    """What it costs when the work that is known loses most of its room by a single replica (quota model `ranked`).

    Above 0, a single replica goes where that work loses least, and not to the fullest node."""
    shortfall: Dollars = 1.0
    """What it costs to run none of the replicas beyond the minimum, compared with all that were wanted."""
    preferences: Annotated[tuple[Preference, ...], Field(max_length=256)] = ()
    preference_limit: Dollars = 1_000.0
    """The most that all preferences together count."""
    improvement: Improvement = Improvement()
    egress: Goal = Goal()
    """What it costs to bring in data that a region lacks, over the accelerator-hours of the work."""
    staging: Goal = Goal()
    """What the accelerators cost while they wait for these data."""
    transfers: Transfers = Transfers()
    hazard: Hazard = Hazard()
    affinity: Goal = Goal()
    """What the nodes are worth that the replica groups themselves like."""
    spread: Goal = Goal()
    """What it costs that replicas sit closer together than the workload itself would like."""
    expected_seconds: Annotated[Seconds, Field(ge=1)] = 3_600
    """How long work is taken to run that does not say."""
    defragmentation: Defragmentation = Defragmentation()


class Approvals(Model):
    """What operators order that has to be approved by a person before anything comes of it, by the policy in force then."""

    evacuations: tuple[PlaceKind, ...] = (PlaceKind.REGION,)
    """Emptying such places."""
    stops: Annotated[StrictInt, Field(ge=0, le=10**6)] | None = 10
    """A roll-out by which more workloads than this would have to leave; none: however many it is."""
    protection: StrictBool = True
    """A roll-out by which running work would lose protection."""
    expires_seconds: Annotated[Seconds, Field(ge=1)] = 86_400
    """What nobody has approved by then has ended."""
    by_another: StrictBool = True
    """Whoever ordered it cannot approve it."""
    mandate_seconds: Annotated[Seconds, Field(ge=1)] = 90 * 86_400
    """For so long at most a person may sign what a schedule orders for them."""


NodePoolName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}/[a-z0-9][a-z0-9._-]{0,99}$")]
"""A node pool as `provider/name`."""


class NodePoolLimits(Model):
    """How many nodes of one pool there are at least, wanted or not, and at most; none: as many as its provider allows."""

    minimum: Annotated[StrictInt, Field(ge=0, le=100_000)] = 0
    maximum: Annotated[StrictInt, Field(ge=0, le=100_000)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum: {self.maximum} is less than the minimum, {self.minimum}")
        return self


class Growth(Model):
    """How far the fleet grows by itself, out of the node pools of its providers, and how it shrinks again.

    The windows and waits are those of the Kubernetes cluster autoscaler, but for the shorter one upwards, which it has not.
    """

    dollars_per_hour: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    """The most that all provisioned nodes together may cost; 0: none are provisioned."""
    maximum_nodes: Annotated[StrictInt, Field(ge=0, le=10_000)] = 100
    """The most provisioned nodes at once, those on their way included."""
    node_pools: Mapping[NodePoolName, NodePoolLimits] = {}
    up_window_seconds: Seconds = 30
    """Nodes are ordered once as many have been needed for so long without a break."""
    down_window_seconds: Seconds = 600
    """Nodes are given back once fewer have been needed for so long without a break."""
    give_up_seconds: Annotated[Seconds, Field(ge=1)] = 900
    """What has not come by then is given up."""
    back_off_seconds: Annotated[Seconds, Field(ge=1)] = 300
    """After a failure nothing is ordered from the same pool for so long; twice as long after each further one."""
    longest_back_off_seconds: Annotated[Seconds, Field(ge=1)] = 1_800

    def within(self, node_pool: str) -> NodePoolLimits:
        """The limits of one pool."""
        return self.node_pools.get(node_pool, NodePoolLimits())


class Policy(Model):
    """One policy document.

    `hold_seconds` is how long held capacity waits to be bound (promised capacity: after the grace of those who leave it), and
    `stop_seconds` how long each step may take by which work leaves: until its provider has given notice, after its grace until
    it is stopped by force, and from then on until its nodes are suspect. Both in seconds of the pool's clock.
    """

    format: Literal[1] = 1
    name: Identifier = "default"
    constraints: Constraints = Constraints()
    limits: Limits = Limits()
    rank: Rank = Rank()
    goals: Goals = Goals()
    approvals: Approvals = Approvals()

    growth: Growth = Growth()
    hold_seconds: Annotated[Seconds, Field(ge=1)] = 3_600
    stop_seconds: Annotated[Seconds, Field(ge=1)] = 900

    @property
    def document(self) -> dict[str, object]:
        """The policy as plain data, as it is written down."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of the policy in canonical JSON, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()


class Fault(StrEnum):
    """What can be wrong with a document that is valid by itself."""

    CONTRADICTION = "contradiction"
    """Something that it demands can never be."""
    DEAD_RULE = "dead-rule"
    """A rule that another one shadows, or that nothing can meet."""
    WITHOUT_EFFECT = "without-effect"
    """A setting that the rest of the document makes meaningless."""
    OSCILLATION = "oscillation"
    """What one rule starts, another one stops again."""


class DocumentKind(StrEnum):
    """Which document a finding is about."""

    POLICY = "policy"
    QUEUES = "queues"


class LintFinding(Model):
    """What lint found: by which rule, at which field of which document, what is wrong there, and what to do.

    Documents with a finding that `refuses` are not applied.
    """

    rule: str
    fault: Fault
    refuses: bool
    document: DocumentKind
    field: str
    message: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}; {self.advice} [{self.rule}]"


class PolicyOrder(Model):
    """A policy that shall be in force from now on; by whom, and why."""

    policy: Policy
    who: ShortText = ""
    why: ShortText = ""


class PolicyRecord(Model):
    """A policy as the record keeps it. Versions rise; the newest one is in force."""

    version: int
    digest: str
    policy: Policy
    applied_at: datetime
    who: str = ""
    why: str = ""


class PolicyAnswer(Model):
    """What came of an order: the policy in force, or nothing where a finding refuses the order, which then changed nothing."""

    record: PolicyRecord | None
    findings: tuple[LintFinding, ...]
