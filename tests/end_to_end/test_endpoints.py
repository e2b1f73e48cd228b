"""Endpoints of a live pool follow the demand that they are told of."""

from corral.api import Autoscale, Demand, DemandSource, ReplicaGroup, State
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import LivePool, eventually

FOR_EVER = 1e6
RULES = Autoscale(target=10, minimum=0, most=3, step_down=3, down_window_seconds=0, period_seconds=0)


async def until_it_has(pool: LivePool, replicas: int) -> None:
    """Until the endpoint runs with so many replicas."""

    async def look() -> bool | None:
        where = (status := await pool.corral.status("endpoint")).where
        runs = status.state is State.RUNNING and where is not None
        return (runs and where is not None and where.accelerators == replicas) or None

    await eventually(look, f"the endpoint runs with {replicas} replicas")


async def test_replicas_follow_as_demand_rises_falls_ends_and_comes_back(pool: LivePool) -> None:
    group = ReplicaGroup(count=1, minimum=0)
    await pool.corral.submit(a_workload("endpoint", groups=(group,), autoscale=RULES, parameters=behaving(FOR_EVER)))
    await until_it_has(pool, 1)
    began = await pool.corral.status("endpoint")
    for demand, replicas in ((28, 3), (15, 2)):
        told = await pool.corral.demand("endpoint", Demand(value=demand))
        assert told.message == f"{replicas} replicas wanted for a demand of {demand}"
        await until_it_has(pool, replicas)
    assert (await pool.corral.status("endpoint")).epoch == began.epoch, "what it kept ran on"
    await pool.corral.demand("endpoint", Demand(value=0))
    await pool.until("endpoint", State.SUSPENDED)
    assert await pool.has_nothing_of("endpoint")
    await pool.corral.demand("endpoint", Demand(value=5))
    await until_it_has(pool, 1)
    await pool.corral.cancel("endpoint")


async def test_where_no_host_may_be_asked_the_status_says_which_setting_allows_it(pool: LivePool) -> None:
    rules = RULES.model_copy(update={"demand_from": DemandSource(url="http://prometheus:9090", query="sum(requests)")})
    group = ReplicaGroup(count=1, minimum=0)
    await pool.corral.submit(a_workload("asking", groups=(group,), autoscale=rules, parameters=behaving(FOR_EVER)))

    async def problem() -> str | None:
        following = (await pool.corral.status("asking")).following
        return following.problem if following else None

    told = await eventually(problem, "the endpoint says why its demand is unknown")
    assert "CORRAL_DEMAND_HOSTS=prometheus:9090" in told
    await pool.corral.cancel("asking")
