"""A pool for situations: a store on a database of its own, a clock moved by hand, and the words to say what happened."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from activities.answers import Adjusted, Adjustment, AttemptKey, Notice, Standing
from activities.deciding import Decider
from activities.ports import LaunchSpec, NodeView, Observation, Phase
from activities.store import tables
from activities.store.postgres import PostgresStore
from corral.api import Cordon, OperationChange, Outcome, QueueSpec, QueueTree, SlaTier, State, WorkloadSpec
from corral.policy import Policy, QuotaModel
from corral.signing import Command, updated
from corral.wire import Steering
from domain.decision import Plan
from domain.snapshot import Snapshot
from tests.builders import NOON, UNPROMISED, a_queue, a_workload

PROVIDER = "aws"
POOL = "main"


@dataclass
class HandClock:
    """The pool's time, which stands still until it is moved."""

    time: datetime = NOON

    def now(self) -> datetime:
        return self.time

    def wall_seconds(self, pool_seconds: float) -> float:
        return pool_seconds

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def a_view(name: str = "n1", *, gpus: int = 8, **fields: Any) -> NodeView:
    """A node as its provider reports it."""
    place = {"region": "eu", "cluster": "eu-1", "sku": "h100", "topology": ()}
    size = {"cpu_milli": 64_000, "memory_mib": 512_000}
    observed: dict[str, Any] = place | size | fields
    return NodeView(name=name, accelerators=gpus, **observed)


def a_spec(id: str, *, gpus: float = 8, tier: SlaTier = SlaTier.STANDARD, **fields: Any) -> WorkloadSpec:
    return a_workload(id, gpus=gpus, tier=tier, **fields).spec


@dataclass
class Pool:
    """Everything that a situation does to the record, and what it then finds there."""

    url: str
    engine: AsyncEngine
    policy: Policy = UNPROMISED
    clock: HandClock = field(default_factory=HandClock)
    sequence: int = 0

    def __post_init__(self) -> None:
        self.store = self.another_store()

    @classmethod
    def at(cls, url: str) -> "Pool":
        """A pool in the database at a URL."""
        return cls(url, create_async_engine(url, pool_size=8))

    def another_store(self) -> PostgresStore:
        """The store of another process, as far as the database can tell."""
        return PostgresStore(self.engine, self.clock, POOL, self.policy)

    def decide_by(self, model: QuotaModel) -> None:
        """The same pool under another quota model, while no policy is recorded."""
        rank = self.policy.rank.model_copy(update={"quota_model": model})
        self.policy = self.policy.model_copy(update={"rank": rank})
        self.store = self.another_store()

    # What happens

    async def gets(self, *views: NodeView, queues: Sequence[QueueSpec] = ()) -> None:
        """Nodes are reported, and queues defined; by default one queue with more quota than there is capacity."""
        await self.store.register_provider(PROVIDER, "sim")
        await self.store.write_nodes(PROVIDER, views, complete=True)
        await self.store.apply_queues(QueueTree(queues=tuple(queues) or (a_queue("research", 1_000),)))

    async def arrive(self, *specs: WorkloadSpec) -> dict[str, Standing]:
        return (await self.store.round(specs, Decider().decide, "admission"))[0]

    async def plan(self) -> dict[str, Standing]:
        """A round about everybody; answers with what workflows are to be told."""
        _, notices = await self.store.round([], Decider().decide, "planner")
        return by_workload(notices)

    async def snapshot(self) -> Snapshot:
        """What the next round would read."""
        seen: list[Snapshot] = []

        def look(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
            seen.append(snapshot)
            return Plan(()), {}

        await self.another_store().round([], look, "planner")
        return seen[0]

    async def decided(self, decide: Callable[[Snapshot], Plan], *specs: WorkloadSpec) -> dict[str, Standing]:
        """A round that decides this; answers with what workflows are to be told."""
        standings, notices = await self.store.round(specs, lambda snapshot, now: (decide(snapshot), {}), "planner")
        return standings | by_workload(notices)

    async def binds(self, *workloads: str) -> dict[str, LaunchSpec | None]:
        orders = await self.store.begin_bindings([await self.key(id) for id in workloads])
        return dict(zip(workloads, orders, strict=True))

    async def runs(self, *workloads: str) -> None:
        """Workloads that have a hold are bound, and observed running."""
        await self.binds(*workloads)
        await self.seen(*[await self.observation(id, Phase.RUNNING) for id in workloads])

    async def ends(self, workload: str, phase: Phase = Phase.SUCCEEDED, **fields: Any) -> dict[str, Standing]:
        return await self.seen(await self.observation(workload, phase, **fields))

    async def seen(self, *observations: Observation, answered: Collection[str] = ()) -> dict[str, Standing]:
        """Observations are settled; answers with what workflows are to be told."""
        _, notices = await self.store.settle(observations, frozenset(answered))
        return by_workload(notices)

    async def adjusts(self, verb: str, workload: str, key: str = "once", **asked: Any) -> Adjusted:
        return (await self.store.adjust(verb, Adjustment(workload, key, **asked)))[0]

    async def orders(self, action: str, *nodes: str) -> None:
        self.sequence += 1
        order = Cordon(action=action, nodes=nodes, reason="a test asks for it")
        await self.store.cordon(PROVIDER, order, f"order-{self.sequence}")

    async def key(self, workload: str) -> AttemptKey:
        return AttemptKey(workload, (await self.standing(workload)).epoch)

    async def observation(
        self, workload: str, phase: Phase, *, epoch: int | None = None, started: datetime | None = None, **fields: Any
    ) -> Observation:
        """What a provider sees of a workload's latest attempt; later ones have higher numbers."""
        self.sequence += 1
        epoch = epoch or (await self.standing(workload)).epoch
        began = started or (None if phase is Phase.STARTING else await self._started_at(workload, epoch))
        values = {"at": self.clock.now(), "started_at": began, "sequence": self.sequence} | fields
        return Observation(f"{workload}.{epoch}", epoch, phase, **values)

    async def _started_at(self, workload: str, epoch: int) -> datetime:
        rows = await self.sql("SELECT started_at FROM attempts WHERE id = $1", f"{workload}.{epoch}")
        return (rows[0]["started_at"] if rows else None) or self.clock.now()

    # What is so

    async def standing(self, workload: str) -> Standing:
        found = await self.store.standing(workload)
        assert found is not None, f"{workload} is not in the record"
        return found

    async def states(self, *workloads: str) -> list[State]:
        return [(await self.standing(id)).state for id in workloads]

    async def state(self, workload: str) -> State:
        return (await self.standing(workload)).state

    async def phases(self, workload: str) -> dict[str, str]:
        """What became of the capacity of a workload's latest attempt, by node."""
        attempt = f"{workload}.{(await self.standing(workload)).epoch}"
        rows = await self.sql("SELECT node_id, phase FROM allocations WHERE attempt_id = $1", attempt)
        return {row["node_id"].removeprefix(f"{PROVIDER}/"): row["phase"] for row in rows}

    async def outcomes(self, workload: str) -> list[Outcome]:
        """How the ended attempts of a workload ended, the first one first."""
        rows = await self.sql(
            "SELECT outcome FROM attempts WHERE workload_id = $1 AND ended_at IS NOT NULL ORDER BY epoch", workload
        )
        return [Outcome(row["outcome"]) for row in rows]

    async def intervals(self, workload: str) -> list[tuple[str, float, float | None]]:
        """The workload's ledger: kind, and the seconds since noon of beginning and end."""
        rows = await self.sql("SELECT kind, began_at, ended_at FROM ledger WHERE workload_id = $1 ORDER BY id", workload)
        return [(row["kind"], since_noon(row["began_at"]), row["ended_at"] and since_noon(row["ended_at"])) for row in rows]

    async def used(self, node: str = "n1") -> int:
        """Thousandths of the accelerators of a node that are claimed."""
        rows = await self.sql("SELECT device_use FROM nodes WHERE id = $1", f"{PROVIDER}/{node}")
        return sum(rows[0]["device_use"])

    async def findings(self) -> dict[str, list[str]]:
        """What the audit finds, by rule."""
        found: dict[str, list[str]] = {}
        for finding in await self.store.audit():
            found.setdefault(finding.rule, []).append(finding.where)
        return found

    async def sql(self, statement: str, *values: object) -> list[Mapping[str, Any]]:
        """Go past the store, in a transaction of its own."""
        async with self.session() as connection:
            return list(await connection.fetch(statement, *values))

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the driver's own kind."""
        async with self.engine.connect() as connection:
            yield (await connection.get_raw_connection()).driver_connection

    async def elsewhere(self, statement: str) -> None:
        """Run a statement in a session of another event loop."""
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        await connection.execute(statement)
        await connection.close()

    async def dump(self, *, without: Collection[str] = ()) -> dict[str, list[str]]:
        """All rows of all tables."""
        async with self.session() as connection:
            return {
                table: sorted(json.dumps(dict(row), default=str) for row in await connection.fetch(f'SELECT * FROM "{table}"'))
                for table in tables.metadata.tables
                if table not in without
            }


def by_workload(notices: Sequence[Notice]) -> dict[str, Standing]:
    """The last standing of each workload."""
    return {notice.standing.workload: notice.standing for notice in notices}


def since_noon(instant: datetime) -> float:
    return (instant - NOON).total_seconds()


def noon(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


async def is_signed(pool: Pool, order: Command, approval: OperationChange) -> None:
    """`ada` has ordered an operation; she and `ops` have signed the same approval, by keys `by-ada` and `by-ops`."""
    await pool.store.ordered("ada", order, "run")
    for principal in ("ada", "ops"):
        command = updated(Steering.APPROVE, order.subject, f"by-{principal}", approval)
        assert command is not None
        await pool.store.ordered(principal, command, "run")
