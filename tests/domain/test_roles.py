"""Who may give which command: every command by every role, on one's own queue and on that of others."""

from pathlib import Path

import pytest

from domain.operations.roles import NEEDS, About, Grant, Role, refusal

PAGE = (Path(__file__).parents[2] / "docs" / "securing.md").read_text()
OURS = About("workload/w1", [["research", "science"]], submitter="ada")
THEIRS = About("workload/w1", [["product"]], submitter="ada")
OF_BEN = About("workload/w1", [["research", "science"]], submitter="ben")
OF_THE_POOL = About("pool")

SUBMITTER = (Grant(Role.SUBMIT, ("research",)),)
OWNER = (Grant(Role.OWN, ("research",)),)
OWNER_ABOVE = (Grant(Role.OWN, ("science",)),)
OPERATOR = (Grant(Role.OPERATE),)
CHANGES_OF_ONES_OWN = {command for command, role in NEEDS.items() if role is Role.SUBMIT}
OF_A_QUEUE = {command for command, role in NEEDS.items() if role is Role.OWN}
OF_ALL = {command for command, role in NEEDS.items() if role is Role.OPERATE}

MAY: dict[str, tuple[tuple[Grant, ...], About, set[str]]] = {
    "nobody": ((), OURS, set()),
    "who submits, about what is its own": (SUBMITTER, OURS, CHANGES_OF_ONES_OWN),
    "who submits, about what is another's": (SUBMITTER, OF_BEN, {"submit"}),
    "who submits, about another queue": (SUBMITTER, THEIRS, set()),
    "who owns the queue": (OWNER, OF_BEN, CHANGES_OF_ONES_OWN | OF_A_QUEUE),
    "who owns the cohort above": (OWNER_ABOVE, OF_BEN, CHANGES_OF_ONES_OWN | OF_A_QUEUE),
    "who owns another queue": (OWNER, THEIRS, set()),
    "who owns a queue, about the pool": (OWNER, OF_THE_POOL, set()),
    "who operates": (OPERATOR, OF_BEN, set(NEEDS)),
    "who operates, about the pool": (OPERATOR, OF_THE_POOL, set(NEEDS)),
}


@pytest.mark.parametrize("command", NEEDS)
@pytest.mark.parametrize("who", MAY)
def test_each_command_is_for_whom_the_table_says(who: str, command: str) -> None:
    grants, about, allowed = MAY[who]
    problem = refusal("ada", grants, command, about)
    assert (problem is None) == (command in allowed), problem


def test_a_refusal_names_who_what_role_queue_and_remedy() -> None:
    assert refusal("ada", SUBMITTER, "reprioritize", OURS) == (
        "reprioritize: 'ada' may not do this to workload/w1: it needs the role 'own' on queue research; "
        "who operates the pool can grant it, in its file of principals"
    )
    assert refusal("ada", SUBMITTER, "cancel", OF_BEN) == (
        "cancel: 'ada' may not do this to workload/w1: it needs the role 'own' on queue research, as ben submitted it; "
        "who operates the pool can grant it, in its file of principals"
    )
    assert refusal("ada", OWNER, "cordon", About("provider/aws")) == (
        "cordon: 'ada' may not do this to provider/aws: it needs the role 'operate'; "
        "who operates the pool can grant it, in its file of principals"
    )


def test_what_is_about_several_queues_takes_a_role_on_all_of_them() -> None:
    both = About("reservation/r1", [["research", "science"], ["product"]])
    problem = refusal("ada", OWNER, "reserve", both)
    assert problem is not None
    assert "needs the role 'own' on queue product;" in problem
    assert refusal("ada", (Grant(Role.OWN, ("research", "product")),), "reserve", both) is None


def test_a_reservation_of_no_queue_is_for_who_operates() -> None:
    problem = refusal("ada", OWNER, "reserve", About("reservation/maintenance"))
    assert problem is not None
    assert "needs the role 'operate'" in problem


@pytest.mark.parametrize("command", NEEDS)
def test_the_page_says_what_each_command_needs(command: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{NEEDS[command]}` |"))
    assert f"`{command}`" in line
