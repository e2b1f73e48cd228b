"""The driver of a demonstration does what its scenario says on a slow machine, too."""

import asyncio
from typing import Any, cast

from corral.api import Fix, FixKind, QueueSpec, QueueTree, QuotaChange, QuotaSpec
from corral.client import Corral
from tests.corral.fakes import A_WAITING_WORKLOAD, FakeCorral
from worker.clock import PoolClock
from worker.demo.driver import Driver
from worker.demo.record import Glimpse, Reader
from worker.demo.scenario import Deed, Scenario, Verb
from worker.fleet_file import DEFAULT_FLEET, read_fleet

QUOTA = Fix(
    kind=FixKind.RAISE_QUOTA, message="raise it", cost=1, quotas=(QuotaChange(queue="team", sku="h100", nominal=4, cap=0),)
)
TEAM = QueueSpec(name="team", quotas=(QuotaSpec(sku="h100", nominal=8),))


def a_scenario(*deeds: Deed) -> Scenario:
    return Scenario(
        title="deeds",
        clock_speed=1,
        fleet=read_fleet(DEFAULT_FLEET),
        queues=QueueTree(queues=(TEAM,)),
        arrivals=(),
        deeds=deeds,
    )


class Told(FakeCorral):
    """Says why work waits at once, and what would start it the third time that somebody asks."""

    async def explain(self, workload: str, *, names: bool = False) -> Any:
        return (await self.status(workload)).explanation

    def _next_status(self) -> Any:
        explanation = A_WAITING_WORKLOAD.explanation
        assert explanation is not None
        fixes = (QUOTA,) if len(self.asked) >= 3 else ()
        return A_WAITING_WORKLOAD.model_copy(update={"explanation": explanation.model_copy(update={"fixes": fixes})})


class Watched:
    """A record that nothing is in, and that nobody looks at."""

    async def glimpse(self) -> Glimpse:
        return Glimpse(PoolClock().now(), {}, (), (), ())

    def show(self, glimpse: Glimpse, submitted: int) -> None:
        assert submitted == 0


async def test_a_fix_is_followed_though_it_comes_later_than_the_reason() -> None:
    corral, watched = Told(), Watched()
    driver = Driver(cast(Corral, corral), cast(Reader, watched), PoolClock(), cast(Any, None), watched)
    course = await driver.drive(a_scenario(Deed(0, Verb.FOLLOW_FIX, "waiting", "it is approved")))
    (done,) = course.done
    assert done.answer.endswith("done: raise it")
    tree = corral.asked[-1][1]
    assert isinstance(tree, QueueTree)
    assert tree.queues[0].quotas[0].nominal == 12


class SlowToBreak:
    """Machines of which none breaks at once."""

    def __init__(self) -> None:
        self.treated: list[Verb] = []

    async def treat(self, deed: Deed, _: object) -> str:
        for _ in range(10 if deed.verb is Verb.LOSE_NODE else 0):
            await asyncio.sleep(0)
        self.treated.append(deed.verb)
        return "done"


async def test_a_node_is_not_recovered_before_it_is_lost() -> None:
    machines, watched = SlowToBreak(), Watched()
    driver = Driver(cast(Corral, FakeCorral()), cast(Reader, watched), PoolClock(), cast(Any, machines), watched)
    deeds = (Deed(0, Verb.LOSE_NODE, "w", "it breaks"), Deed(0, Verb.RECOVER_NODE, "w", "it was replaced"))
    await driver.drive(a_scenario(*deeds))
    assert machines.treated == [Verb.LOSE_NODE, Verb.RECOVER_NODE]
