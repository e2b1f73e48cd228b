"""Asking what a change would do, and what comes of its token."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.rolling_out import RollingOut
from corral.api import QueueTree
from corral.policy import Policy
from corral.rollout import Change, RolloutOrder, RolloutState
from corral.wire import Failure
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import UNPROMISED, a_queue


async def test_a_token_that_was_given_lets_the_change_in(pool: Pool) -> None:
    await pool.store.record_policy()
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"))
    rolling_out, change = RollingOut(pool.store), Change(policy=UNPROMISED.model_copy(update={"name": "next"}))
    found = await rolling_out.what_if(change)
    order = RolloutOrder(id="r", change=change, token=found.token, reason="why not", who="ada")
    assert (await rolling_out.begin(order)).state is RolloutState.WATCHING
    assert [each.id for each in await rolling_out.operations(None, 5)] == ["r"]


async def test_no_token_is_good_for_a_change_that_is_refused(pool: Pool) -> None:
    await pool.gets(a_view())
    lists = {"allow": {"regions": ["us"]}, "deny": {"regions": ["us"]}}
    rolling_out = RollingOut(pool.store)
    found = await rolling_out.what_if(Change(policy=Policy.model_validate({"constraints": {"platform": lists}})))
    assert any(finding.refuses for finding in found.findings)
    assert await pool.sql("SELECT token FROM what_ifs") == []


async def test_queues_that_form_no_tree_are_an_answer_and_not_tried_again(pool: Pool) -> None:
    await pool.gets(a_view())
    with pytest.raises(ApplicationError, match="nobody") as refused:
        await RollingOut(pool.store).what_if(Change(queues=QueueTree(queues=(a_queue("team", 8, parent="nobody"),))))
    assert (refused.value.type, refused.value.non_retryable) == (Failure.INVALID, True)
