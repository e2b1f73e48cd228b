"""Lines of queues by lanes are those in which everybody stands one by one."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.policy import QuotaModel
from domain.facts import Facts
from domain.pool.standing import standing
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.lines import Lines
from domain.quota_models.cohorts.nomination import Nomination, Verdict
from domain.quota_models.cohorts.setting import Setting
from domain.quota_models.openings import why_not_yet
from domain.worlds.request import Kind
from tests.builders import NOON
from tests.properties.crowds import a_crowd
from tests.properties.situations import STABLE

STEPS = 60


class OneByOne:
    """Everybody in their places, and kinds that are passed over."""

    def __init__(self, waiting: list[Waiting], facts: Facts) -> None:
        self.line, self.facts, self.parked = sorted(waiting, key=place), facts, set[Kind]()

    def heads(self) -> list[Waiting]:
        heads: dict[str, Waiting] = {}
        for each in self.line:
            if self.facts.turn_kind(each) not in self.parked:
                heads.setdefault(each.spec.queue, each)
        return [heads[queue] for queue in sorted(heads)]


def place(workload: Waiting) -> tuple[object, ...]:
    tier, priority = standing(workload.spec.tier, workload.spec.priority)
    return -tier, -priority, workload.submitted_at, workload.id


@STABLE
@given(st.randoms(use_true_random=False))
def test_whoever_is_served_passed_over_or_considered_again(random: Random) -> None:
    snapshot = a_crowd(random, QuotaModel.COHORTS)
    facts = Facts.of(snapshot, NOON)
    lines = Lines(facts.backlog(snapshot.waiting), Setting.of(facts))
    plain = OneByOne([each for each in snapshot.waiting if why_not_yet(each, facts) is None], facts)
    for _ in range(STEPS):
        assert lines.heads() == plain.heads()
        if not plain.heads() or random.random() < 0.1:
            lines.reconsider()
            plain.parked.clear()
            continue
        chosen = random.choice(plain.heads())
        if random.random() < 0.5:
            lines.remove(chosen)
            plain.line.remove(chosen)
        elif lines.park(Nomination(chosen, Verdict.LACKS_VICTIMS)):
            plain.parked.add(facts.turn_kind(chosen))
    left = [each for column in lines.left() for each in column.everybody]
    assert sorted(left, key=place) == plain.line
