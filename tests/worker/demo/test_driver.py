"""The driver of a demonstration does what its scenario says on a slow machine, too."""

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
FOLLOWS = Scenario(
    title="a fix is followed",
    clock_speed=1,
    fleet=read_fleet(DEFAULT_FLEET),
    queues=QueueTree(queues=(TEAM,)),
    arrivals=(),
    deeds=(Deed(0, Verb.FOLLOW_FIX, "waiting", "it is approved"),),
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
    course = await driver.drive(FOLLOWS)
    (done,) = course.done
    assert done.answer.endswith("done: raise it")
    tree = corral.asked[-1][1]
    assert isinstance(tree, QueueTree)
    assert tree.queues[0].quotas[0].nominal == 12
