"""What lint says that a quota model reads of a queue is what it really reads."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from corral.api import QueueSpec
from corral.policy import QuotaModel
from domain.lint.knobs import QUEUE_KNOBS
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON
from tests.properties.situations import STABLE, worlds

FACTS = {"created_at"}
"""Fields that say what is so, and ask for nothing."""


@pytest.mark.parametrize("model", QuotaModel)
def test_a_model_reads_of_a_queue_what_lint_says(model: QuotaModel) -> None:
    of_some = {field for field, models in QUEUE_KNOBS.items() if model in models}
    of_all = QueueSpec.model_fields.keys() - QUEUE_KNOBS.keys()

    assert fields_read(model) - FACTS == (of_some | of_all) - FACTS


def fields_read(model: QuotaModel) -> set[str]:
    """The fields of queues that rounds over many worlds read."""
    reads: set[str] = set()

    class Watched(QueueSpec):
        def __getattribute__(self, name: str) -> Any:
            reads.add(name)
            return super().__getattribute__(name)

    @STABLE
    @given(worlds)
    def look(world: Snapshot) -> None:
        rank = world.policy.rank.model_copy(update={"quota_model": model})
        queues = tuple(Watched.model_construct(**dict(queue)) for queue in world.queues)
        schedule(replace(world, queues=queues, policy=world.policy.model_copy(update={"rank": rank})), NOON)

    look()
    return reads & QueueSpec.model_fields.keys()
