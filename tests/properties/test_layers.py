"""In whatever order changes are made, taken back, confirmed and overruled by hand, a plain list says what is in force."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from corral.api import QueueSpec
from domain.operations.fields import Edits, Fields, edited, edits, of_queues, queues_of
from domain.operations.layers import Layers, edited_by_hand, laid, settled, without
from tests.properties.situations import QUEUES, STABLE, queues

BY_HAND = ""
PATHS = [("one", "weight"), ("one", "stop"), ("two", "weight"), ("two", "parent"), ("three", "priority")]
fields = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(("0", "1", "2")))
steps = st.lists(
    st.tuples(st.sampled_from(("apply", "apply", "abort", "confirm", "edit")), st.integers(0, 5), fields),
    min_size=4,
    max_size=14,
)


@dataclass
class Layered:
    """What is in force, and who may take back what."""

    now: Fields
    layers: Layers = ()

    def apply(self, id: str, then: Fields) -> None:
        self.layers, self.now = laid(self.layers, id, self.now, then), then

    def edit(self, then: Fields) -> None:
        self.layers, self.now = edited_by_hand(self.layers, edits(self.now, then).keys()), then

    def abort(self, id: str) -> None:
        self.layers, back = without(self.layers, id)
        self.now = edited(self.now, back)

    def confirm(self, id: str) -> None:
        self.layers = settled(self.layers, id)


@dataclass
class Listed:
    """The same as a list of what each has changed, one after the other, over what there was first."""

    first: Fields
    changes: list[tuple[str, Edits]] = field(default_factory=list)

    @property
    def now(self) -> Fields:
        now = self.first
        for _, change in self.changes:
            now = edited(now, change)
        return now

    def apply(self, id: str, then: Fields) -> None:
        self.changes.append((id, edits(self.now, then)))

    def edit(self, then: Fields) -> None:
        self.apply(BY_HAND, then)

    def abort(self, id: str) -> None:
        self.changes = [(who, change) for who, change in self.changes if who != id]

    def confirm(self, id: str) -> None:
        self.changes = [(BY_HAND if who == id else who, change) for who, change in self.changes]


@STABLE
@given(fields, steps)
def test_what_is_in_force_is_that_of_the_changes_that_are_left_in_their_order(
    first: Mapping[tuple[str, ...], str], taken: list[tuple[str, int, Mapping[tuple[str, ...], str]]]
) -> None:
    layered, listed, watched = Layered(first), Listed(first), list[str]()
    for number, (verb, which, then) in enumerate(taken):
        id = watched[which % len(watched)] if watched else None
        for each in (layered, listed):
            match verb:
                case "apply":
                    each.apply(f"r{number}", then)
                case "edit":
                    each.edit(then)
                case "abort" if id:
                    each.abort(id)
                case "confirm" if id:
                    each.confirm(id)
        watched += [f"r{number}"] if verb == "apply" else []
        watched = [each for each in watched if verb not in {"abort", "confirm"} or each != id]
        assert layered.now == listed.now
    for id in watched:
        layered.abort(id)
        listed.abort(id)
    assert layered.now == listed.now


@st.composite
def trees(draw: st.DrawFn) -> tuple[QueueSpec, ...]:
    return tuple(draw(queues(name)) for name in QUEUES)


@STABLE
@given(trees(), trees())
def test_queues_are_their_fields_and_one_tree_becomes_another_by_what_tells_them_apart(
    before: tuple[QueueSpec, ...], after: tuple[QueueSpec, ...]
) -> None:
    was, then = of_queues(before), of_queues(after)
    assert queues_of(was) == before
    assert edited(was, edits(was, then)) == then
