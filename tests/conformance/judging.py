"""Judging a case, whatever its horizon."""

from tests.conformance.cases import Case
from tests.conformance.comparing import differences
from tests.conformance.dividing import differences_in_shares
from tests.conformance.running import run


def judge(case: Case) -> list[str]:
    """What differs from what is expected, in words; nothing where the case passes."""
    if case.horizon == "share":
        return list(differences_in_shares(case))
    return differences(case, run(case))
