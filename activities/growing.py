"""Growing: planning the fleet's growth, and asking providers for what the plan takes."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from temporalio import activity

from activities.answers import FleetStep, StepKind
from activities.errors import final_failures, is_refusal
from activities.liveness import staying_alive
from activities.ports import NotFound, Provider, ProviderError, Provisioner, Store, as_provisioner
from domain.elasticity.provisioning import FleetPlan, fleet_plan
from domain.pool.nodepools import Course
from domain.snapshot import Snapshot

REST = 4
"""So many times as long as a look took nobody looks again: on a large pool it must not keep rounds from being decided."""

log = logging.getLogger(__name__)


class Growing:
    """Activities of the fleet's growth. All that they have done stands in the record, from which each goes on."""

    def __init__(self, store: Store, providers: Mapping[str, Provider], *, look_seconds: float = 5.0) -> None:
        self._store = store
        self._providers = providers
        self._look_seconds = look_seconds

    @activity.defn(name="growing.keep_planning")
    @staying_alive()
    async def keep_planning(self, seconds: float) -> list[FleetStep]:
        """Plan for a while, or until a provider is to be asked for something; answers with what that is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            began = loop.time()
            steps = await self._store.grow(_planned)
            if steps or loop.time() >= until or activity.is_worker_shutdown():
                return steps
            await asyncio.sleep(max(self._look_seconds, REST * (loop.time() - began)))

    @activity.defn(name="growing.carry_out")
    @staying_alive()
    async def carry_out(self, step: FleetStep) -> str:
        """Ask a provider for what the record still wants of it; answers in words with what came of that.

        Whoever died before the answer was written down leaves an order that is asked for again by the same id.
        """
        if (provider := as_provisioner(self._providers[step.provider])) is None:
            with final_failures():
                raise NotFound(f"provider {step.provider!r} cannot add nodes or take them away")
        match step.kind:
            case StepKind.ASK:
                return await self._ask(provider, step.subjects[0])
            case StepKind.ABANDON:
                await provider.abandon(step.subjects[0])
                await self._store.order_abandoned(step.subjects[0])
                return "abandoned"
            case StepKind.GIVE_BACK:
                return await self._give_back(provider, step.subjects)

    async def _ask(self, provider: Provisioner, id: str) -> str:
        if (order := await self._store.order_to_ask(id)) is None:
            return "it is over"
        try:
            view = await provider.provision(order)
        except ProviderError as error:
            if not is_refusal(error):
                raise
            log.warning("provider %s refuses order %s: %s", provider.name, id, error)
            await self._store.order_failed(id, str(error))
            return f"refused: {error}"
        await self._store.order_taken(id)
        return view.delivery

    async def _give_back(self, provider: Provisioner, names: Collection[str]) -> str:
        leaving = await self._store.nodes_to_give_back(provider.name, names)
        if leaving:
            await provider.deprovision(leaving)
            await self._store.nodes_given_back(provider.name, leaving)
        return f"{len(leaving)} nodes given back"


async def _planned(snapshot: Snapshot, courses: Mapping[str, Course], closed: Collection[str], now: datetime) -> FleetPlan:
    return await asyncio.to_thread(fleet_plan, snapshot, courses, closed, now)
