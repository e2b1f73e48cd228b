"""What gangs are charged when they are held, and what settles it."""

from activities.store.accounts import PAST_USE_MILLISECONDS
from corral.policy import Fairness, Policy, Rank
from domain.decision import Change, Plan, Reshape
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import a_queue

TERM = PAST_USE_MILLISECONDS // 1_000
CHARGED = [("charge", 2_400_000)]
SETTLED = [*CHARGED, ("settlement", -2_400_000)]


async def entries(pool: Pool, workload: str = "greedy") -> list[tuple[str, int]]:
    query = "SELECT kind, milli_seconds FROM penalties WHERE workload_id = $1 ORDER BY epoch, kind"
    return [(row["kind"], row["milli_seconds"]) for row in await pool.sql(query, workload)]


async def with_a_start(pool: Pool, seconds: int = 300) -> None:
    """A queue that owns nothing has just been given eight of the sixteen accelerators, which were there for an hour."""
    pool.policy = Policy(rank=Rank(fairness=Fairness(entry_penalty_seconds=seconds)))
    pool.store = pool.another_store()
    tree = [a_queue("company", 16), a_queue("research", 0, parent="company"), a_queue("sales", 0, parent="company")]
    await pool.gets(a_view("n1"), a_view("n2"), queues=tree)
    pool.clock.move(3_600)
    await pool.arrive(a_spec("greedy"))


async def test_a_start_counts_at_once_as_past_use(pool: Pool) -> None:
    await with_a_start(pool)
    assert await entries(pool) == CHARGED
    past = (await pool.snapshot()).past_use
    assert past.keys() == {"research"}
    assert round(float(past["research"]), 3) == round(8 * 300 / (16 * 3_600), 3)


async def test_a_policy_may_charge_nothing(pool: Pool) -> None:
    await with_a_start(pool, seconds=0)
    assert await entries(pool) == []
    assert (await pool.snapshot()).past_use == {}


async def test_a_charge_is_settled_when_past_use_is_summed_up_with_as_much_real_use(pool: Pool) -> None:
    await with_a_start(pool)
    pool.clock.move(10)
    await pool.runs("greedy")
    pool.clock.move(TERM - 10)
    await pool.plan()
    assert await entries(pool) == CHARGED
    pool.clock.move(TERM)
    await pool.plan()
    assert await entries(pool) == SETTLED
    after = float((await pool.snapshot()).past_use["research"])
    assert round(after, 3) == round(8 * 590 / (16 * 4_200), 3)
    await pool.plan()
    assert await entries(pool) == SETTLED
    assert await pool.findings() == {}


async def test_a_charge_is_settled_when_the_attempt_ends(pool: Pool) -> None:
    await with_a_start(pool)
    await pool.runs("greedy")
    pool.clock.move(1)
    await pool.ends("greedy")
    assert await entries(pool) == SETTLED
    assert await pool.findings() == {}


async def test_a_hold_that_comes_to_nothing_is_charged_nothing_in_the_end(pool: Pool) -> None:
    await with_a_start(pool)
    await pool.adjusts("cancel", "greedy")
    assert await entries(pool) == SETTLED
    assert await pool.findings() == {}


async def test_each_start_of_a_workload_is_charged_once_and_going_on_elsewhere_is_no_start(pool: Pool) -> None:
    await with_a_start(pool)
    await pool.runs("greedy")
    await pool.decided(_elsewhere)
    assert await entries(pool) == CHARGED


def _elsewhere(snapshot: Snapshot) -> Plan:
    (greedy,) = snapshot.active
    return Plan((), reshapes=(Reshape(greedy.attempt_id, Change.MIGRATE, greedy.placement),))
