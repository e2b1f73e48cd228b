"""The driver: submits the load of a plan, lets its faults strike, heals everything, and waits until all work has ended."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from corral.api import State
from corral.client import Conflict, NotFound
from tests.chaos import witness
from tests.chaos.deeds import BAITS, DEEDS, Deeds, NobodyToStrike
from tests.chaos.faults import ORDERED, Fault
from tests.chaos.independent import findings
from tests.chaos.plan import Arrival, Plan, Strike, queues
from tests.chaos.pool import GLANCE_SECONDS, ChaoticPool, persistently
from tests.chaos.witness import connected
from tests.patience import PATIENCE_SECONDS

STRAGGLE_SECONDS = 0.7
RESIZED_WITHIN_SECONDS = 8.0
"""In a full pool others have to leave before an endpoint can grow."""
DRAIN_SECONDS = 5 * PATIENCE_SECONDS


def say_on_terminal(line: str) -> None:
    """Tell whoever watches."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Chaos:
    """One run. `hits` counts the faults that struck, `ends` says how what was submitted ends unless it is cancelled."""

    pool: ChaoticPool
    plan: Plan
    say: Callable[[str], None] = say_on_terminal
    hits: Counter[Fault] = field(default_factory=Counter)
    ends: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deeds = Deeds(self.pool)

    async def run(self) -> None:
        """Carry the plan out, heal, and drain.

        Raises:
            AssertionError: the load does not drain in time; names what is left.
        """
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit_all(began))
            for strike in self.plan.strikes:
                group.create_task(self._let_strike(strike, began))
        await self._linger()
        await self._heal()
        await self._drain()

    async def findings(self) -> list[str]:
        """What the independent check finds."""
        async with connected(self.pool.live.settings.database_url) as connection:
            deeds, temporal, provider = self._deeds, self.pool.live.temporal, self.pool.provider_file
            await witness.testify(connection, temporal, provider, self.ends, deeds.doomed, deeds.scheduled)
            return await findings(connection)

    async def _submit_all(self, began: float) -> None:
        for arrival in self.plan.arrivals:
            await _until(began + arrival.at)
            await self._submit(arrival)
        self._deeds.all_have_come.set()

    async def _submit(self, arrival: Arrival) -> None:
        spec = arrival.spec
        self.ends[spec.id] = arrival.ends
        await persistently(lambda: self.pool.corral.submit(spec))
        self._deeds.submitted[spec.id] = spec

    async def _let_strike(self, strike: Strike, began: float) -> None:
        await _until(began + strike.at)
        self.say(f"{time.monotonic() - began:6.1f} s  {strike.fault}")
        if strike.fault in ORDERED:
            self.pool.orders.give(strike.fault)
        deed = DEEDS.get(strike.fault) or BAITS.get(strike.fault)
        if deed is None:
            return
        try:
            await deed(self._deeds, strike)
        except NobodyToStrike as nobody:
            self.say(f"{strike.fault}: {nobody}")
        else:
            self.hits[strike.fault] += strike.fault not in ORDERED

    async def _linger(self) -> None:
        """Wait until somebody has come by every fault that was ordered; where the load does not, stragglers are sent."""
        for straggler in self.plan.stragglers:
            if not self.pool.orders.open():
                break
            await self._submit(straggler)
            await asyncio.sleep(STRAGGLE_SECONDS)
            await (self._resize if straggler.spec.autoscale else self._hold_and_release)(straggler.spec.id)
        for fault, times in self.pool.orders.withdraw().items():
            self.say(f"{fault}: nobody came by, {times} times")
        self.hits += self.pool.orders.taken()

    async def _resize(self, endpoint: str) -> None:
        """Unless it does not run in time."""
        try:
            strike = Strike(0.0, Fault.DEATH_AFTER_RESIZE, pick=0.9, seconds=RESIZED_WITHIN_SECONDS)
            await self._deeds.choose_size(strike, endpoint)
        except NobodyToStrike as nobody:
            self.say(f"{endpoint}: {nobody}")

    async def _hold_and_release(self, workload: str) -> None:
        """Unless it has ended by now."""
        try:
            await self.pool.hold(workload, "straggler")
        except (Conflict, NotFound):
            return
        await self.pool.release(workload)

    async def _heal(self) -> None:
        """Let everything be as it was before the faults."""
        await self._abort_operations()
        await self.pool.cancel_reservations()
        await self.pool.join(await self.pool.clusters())
        nodes = await self.pool.nodes()
        await self.pool.recover(nodes)
        await self.pool.cordon("uncordon", nodes)
        await persistently(lambda: self.pool.corral.apply_queues(queues()))

    async def _drain(self) -> None:
        give_up = time.monotonic() + DRAIN_SECONDS
        while left := await self._unfinished():
            assert time.monotonic() < give_up, f"not ended within {DRAIN_SECONDS:g} seconds: {', '.join(left)}"
            await self.pool.release_all()
            await self._abort_operations()
            await self.pool.cancel_reservations()
            await asyncio.sleep(GLANCE_SECONDS)

    async def _abort_operations(self) -> None:
        """Of those that have begun by now."""
        for id in await self.pool.under_way():
            await self.pool.abort_operation(id)

    async def _unfinished(self) -> list[str]:
        """What still has to happen, in words."""
        ended = {row["id"] for row in await self.pool.rows("SELECT id FROM workloads WHERE ended_at IS NOT NULL")}
        if left := self.ends.keys() - ended:
            rows = await self.pool.rows("SELECT id, state FROM workloads WHERE id = ANY($1)", list(left))
            states = {row["id"]: row["state"] for row in rows}
            return [f"{id} is {states.get(id, 'missing')}" for id in sorted(left)]
        if untold := await self.pool.rows("SELECT workload_id FROM outbox WHERE delivered IS NULL"):
            return [f"{row['workload_id']} is to be told something" for row in untold]
        if known := await self.pool.at_the_provider():
            return [f"{attempt} is known to the provider" for attempt in known]
        if operations := await self.pool.under_way():
            return [f"operation {id} is under way" for id in operations]
        if reservations := await self.pool.kept():
            return [f"reservation {id} is not over" for id in reservations]
        return [f"the workflow of {id} is open" for id in self.ends if not await self.pool.live.is_closed(id)]


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
