"""Which failures of a step are answers: what is not there is one, what a defect looks up in vain is not."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.errors import final_failures
from activities.ports import NotFound
from corral.wire import Failure


def test_what_is_not_there_is_not_looked_for_again() -> None:
    with pytest.raises(ApplicationError, match="there is no workload 'w'") as failed, final_failures():
        raise NotFound("there is no workload 'w'")
    assert (failed.value.type, failed.value.non_retryable) == (Failure.NOT_FOUND, True)


@pytest.mark.parametrize("defect", [KeyError("w"), IndexError("list index out of range"), LookupError("unknown encoding")])
def test_what_a_defect_looks_up_in_vain_is_tried_again(defect: LookupError) -> None:
    with pytest.raises(type(defect)) as failed, final_failures():
        raise defect
    assert failed.value is defect
