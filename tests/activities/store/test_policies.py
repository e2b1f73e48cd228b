"""Policies in the record: the newest is in force for every process at once, and what speaks against one changes nothing."""

import pytest

from corral.api import CapacityType, QueueTree, State
from corral.policy import Constraints, Places, Policy, PolicyOrder, Scope
from domain.quota.tree import QuotaError
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import UNPROMISED, a_queue

ONLY_US = UNPROMISED.model_copy(
    update={"name": "only-us", "constraints": Constraints(platform=Scope(allow=Places(regions=("us",))))}
)
NO_SPOT = Policy.model_validate({"name": "no-spot", "constraints": {"platform": {"deny": {"capacity_types": ["spot"]}}}})
DESERVED = Policy.model_validate({"name": "deserved", "rank": {"quota_model": "deserved"}})


def an_order(policy: Policy, why: str = "") -> PolicyOrder:
    return PolicyOrder(policy=policy, who="ada", why=why)


async def names(pool: Pool) -> list[str]:
    return [record.policy.name for record in await pool.store.policies(10)]


async def test_the_first_policy_is_written_down_once(pool: Pool) -> None:
    await pool.store.record_policy("at the start")
    await pool.another_store().record_policy("at another start")

    (record,) = await pool.store.policies(10)
    assert (record.policy, record.digest, record.why) == (UNPROMISED, UNPROMISED.digest, "at the start")


async def test_what_is_applied_is_in_force_for_every_process_and_named_by_its_rounds(pool: Pool) -> None:
    await pool.gets(a_view(), a_view("n2", region="us"))
    other = pool.another_store()
    await pool.store.record_policy()
    await pool.arrive(a_spec("before"))

    answer = await other.apply_policy(an_order(ONLY_US, "the contract ends"))
    standings = await pool.arrive(a_spec("after"))

    assert answer.record is not None
    assert (answer.record.who, answer.record.why, answer.findings) == ("ada", "the contract ends", ())
    assert standings["after"].region == "us"
    rounds = await pool.sql("SELECT policy FROM rounds ORDER BY id")
    assert [row["policy"] for row in rounds] == [UNPROMISED.digest, ONLY_US.digest]
    assert await names(pool) == ["only-us", "default"]


async def test_what_is_in_force_already_is_not_written_again(pool: Pool) -> None:
    await pool.gets(a_view(region="us"))
    first = await pool.store.apply_policy(an_order(ONLY_US))

    assert await pool.store.apply_policy(an_order(ONLY_US, "again")) == first
    assert await names(pool) == ["only-us"]


async def test_a_new_policy_lets_waiting_work_start(pool: Pool) -> None:
    await pool.gets(a_view(capacity_type=CapacityType.SPOT), a_view("n2", gpus=1))
    await pool.store.apply_policy(an_order(NO_SPOT))
    assert (await pool.arrive(a_spec("elastic", gpus=1, count=2)))["elastic"].state is State.REFUSED

    await pool.store.apply_policy(an_order(UNPROMISED))
    assert (await pool.arrive(a_spec("later", gpus=1, count=2)))["later"].state is State.RESERVED


async def test_a_policy_that_contradicts_itself_changes_nothing(pool: Pool) -> None:
    await pool.store.record_policy()
    lists = {"allow": {"regions": ["us"]}, "deny": {"regions": ["us"]}}

    answer = await pool.store.apply_policy(an_order(Policy.model_validate({"constraints": {"platform": lists}})))

    assert answer.record is None
    assert [finding.rule for finding in answer.findings if finding.refuses] == ["nobody-can-run"]
    assert await names(pool) == ["default"]


async def test_a_policy_under_which_waiting_work_could_never_run_is_refused(pool: Pool) -> None:
    await pool.gets(a_view(), a_view("n2", region="us", gpus=4))
    await pool.arrive(a_spec("first"))
    assert (await pool.arrive(a_spec("second")))["second"].state is State.WAITING

    answer = await pool.store.apply_policy(an_order(ONLY_US))

    (finding,) = [finding for finding in answer.findings if finding.refuses]
    assert finding.rule == "strands-waiting-work"
    assert finding.message.startswith("second wait and could never run: ")
    assert await pool.plan() == {}


async def test_a_policy_whose_model_does_not_read_what_the_queues_say_is_refused(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 8)])
    await pool.store.apply_policy(an_order(DESERVED))
    await pool.store.apply_queues(QueueTree(queues=(a_queue("research", 8).model_copy(update={"priority": 3}),)))

    answer = await pool.store.apply_policy(an_order(UNPROMISED))

    assert answer.record is None
    (finding,) = [finding for finding in answer.findings if finding.refuses]
    assert (finding.rule, finding.field) == ("queue-field-of-another-model", "queues[0].priority")
    assert await names(pool) == ["deserved"]


async def test_a_queue_that_says_what_the_model_does_not_read_is_refused(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 8)])
    tree = QueueTree(queues=(a_queue("other", 8), a_queue("research", 4).model_copy(update={"priority": 3})))
    before = await pool.dump()

    with pytest.raises(QuotaError, match=r"queues\[1\]\.priority: priority of queue research has no effect"):
        await pool.store.apply_queues(tree)

    assert await pool.dump() == before


async def test_a_document_from_before_a_knob_is_written_again_in_new_words(pool: Pool) -> None:
    await pool.store.record_policy()
    await pool.sql("UPDATE policies SET digest = 'old', document = document - 'hold_seconds'")
    pool.store = pool.another_store()

    await pool.store.record_policy()

    newest, _ = await pool.store.policies(10)
    assert (newest.digest, newest.policy) == (UNPROMISED.digest, UNPROMISED)
    assert newest.why == f"version {newest.version - 1} in the words of a newer Corral"


@pytest.mark.parametrize(("seconds", "state"), [(30 + 5, State.RESERVING), (30 + 6, State.WAITING)])
async def test_a_promise_lasts_beyond_the_grace_of_those_who_leave_it(pool: Pool, seconds: int, state: State) -> None:
    pool.policy = pool.policy.model_copy(update={"hold_seconds": 5})
    pool.store = pool.another_store()
    await pool.gets(a_view())
    await pool.arrive(a_spec("victim"))
    await pool.runs("victim")
    assert (await pool.arrive(a_spec("urgent", priority=9)))["urgent"].state is State.RESERVING

    pool.clock.move(seconds)
    await pool.store.keep_house()

    standing = await pool.store.standing("urgent")
    assert standing is not None
    assert standing.state is state
