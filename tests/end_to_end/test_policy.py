"""A policy that is changed while a pool is at work: it decides from the next round on, or changes nothing at all."""

import pytest

from corral.api import QueueSpec, QueueTree, ReplicaGroup, State, Target
from corral.client import Invalid, PolicyRefused
from corral.policy import Constraints, Policy
from tests.end_to_end.loads import a_workload
from tests.end_to_end.pools import LivePool

EMBARGO = Policy.model_validate({"name": "embargo", "constraints": {"tenants": {"far-away": {"deny": {"skus": ["t4"]}}}}})
ON_T4 = {"tenant": "far-away", "targets": (Target(skus=("t4",)),), "groups": (ReplicaGroup(accelerators=1),)}


async def test_an_applied_policy_decides_about_the_next_workload(pool: LivePool) -> None:
    (first,) = await pool.corral.policies()
    await pool.corral.submit(a_workload("before-the-embargo", **ON_T4))
    assert (await pool.corral.wait("before-the-embargo")).state is State.SUCCEEDED

    answer = await pool.corral.apply_policy(EMBARGO, who="ada", why="a new law")
    await pool.corral.submit(a_workload("under-the-embargo", **ON_T4))
    refused = await pool.until("under-the-embargo", State.REFUSED)

    assert answer.record is not None
    assert answer.record.version > first.version
    assert refused.explanation is not None
    assert "constraints.tenants.far-away.deny.skus" in refused.explanation.message
    digests = await pool.rows(
        "SELECT r.policy FROM rounds r JOIN decisions d ON d.round_id = r.id"
        " WHERE d.workload_id LIKE '%-the-embargo' ORDER BY r.id"
    )
    assert (digests[0]["policy"], digests[-1]["policy"]) == (first.digest, EMBARGO.digest)
    await pool.corral.apply_policy(first.policy, why="the law was repealed")
    assert [record.why for record in await pool.corral.policies(2)] == ["the law was repealed", "a new law"]


async def test_what_speaks_against_a_policy_is_told_and_nothing_is_changed(pool: LivePool) -> None:
    before = await pool.corral.policies()
    nothing_left = Constraints.model_validate({"platform": {"allow": {"skus": ["h100"]}, "deny": {"skus": ["h100"]}}})

    with pytest.raises(PolicyRefused) as refusal:
        await pool.corral.apply_policy(Policy(constraints=nothing_left))

    assert "nobody-can-run" in {finding.rule for finding in refusal.value.findings}
    assert await pool.corral.policies() == before


async def test_queues_say_nothing_that_the_policy_in_force_does_not_read(pool: LivePool) -> None:
    with pytest.raises(Invalid, match="the quota model ranked does not read it"):
        await pool.corral.apply_queues(QueueTree(queues=(QueueSpec(name="deserving", priority=3),)))

    assert "deserving" not in {queue.name for queue in await pool.corral.queues()}
