"""Everything is looked through for garbage again and again, the more seldom the more is kept."""

import ctypes
import gc
import weakref
from collections.abc import Iterator

import psutil
import pytest

from worker.collecting import BLOCKS_PER_SECOND, SHORTEST_PAUSE_SECONDS, give_back, keep_collecting, pause_after

PIECE = 8_192
"""Bytes: too large for the interpreter's own arenas, and too small for the C library to map each by itself."""
PIECES = 10_000


class Ring:
    """Refers to itself, so that nothing but the garbage collector frees it."""

    def __init__(self) -> None:
        self.next = self


class Enough(Exception):
    """Ends what would go on for ever."""


@pytest.fixture
def left_alone() -> Iterator[None]:
    """Nothing is collected by itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("left_alone")
async def test_what_was_old_when_it_ended_is_gone_after_a_while() -> None:
    rings = [Ring(), Ring()]
    ends = [weakref.ref(ring) for ring in rings]
    gc.collect()
    there: list[int] = []

    async def pause(_: float) -> None:
        there.append(sum(end() is not None for end in ends))
        if not rings:
            raise Enough
        rings.pop()

    with pytest.raises(Enough):
        await keep_collecting(pause)
    assert there == [2, 1, 0]


@pytest.mark.parametrize(("blocks", "pause"), [(-100, SHORTEST_PAUSE_SECONDS), (100, SHORTEST_PAUSE_SECONDS), (780_000, 60.0)])
def test_where_much_is_kept_it_is_looked_through_more_seldom(blocks: int, pause: float) -> None:
    assert pause_after(blocks) == pause


async def test_what_is_kept_is_what_has_come_since_the_beginning() -> None:
    kept: list[object] = []
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 1:
            raise Enough
        kept.extend([number] for number in range(100_000))

    with pytest.raises(Enough):
        await keep_collecting(pause)
    assert pauses[0] == SHORTEST_PAUSE_SECONDS
    assert pauses[1] >= len(kept) / BLOCKS_PER_SECOND


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc can be told to give memory back")
def test_what_is_free_below_something_in_use_is_given_back() -> None:
    process = psutil.Process()
    pieces = [b"x" * PIECE for _ in range(PIECES)]
    in_use, pieces = pieces[::100], []
    before = process.memory_info().rss
    give_back()
    assert before - process.memory_info().rss > PIECES * PIECE / 2, f"{len(in_use)} pieces are in use"
