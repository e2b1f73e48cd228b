"""Versions of values by name stay what they were, whoever looks at which of them in what order."""

from hypothesis import given
from hypothesis import strategies as st

from domain.pool.roll import Roll
from domain.pool.versions import Crowd, Versions
from tests.properties.situations import STABLE

changes = st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 3).map(lambda number: (number,)), max_size=3)
steps = st.lists(st.tuples(st.integers(0, 9), changes), max_size=10)
"""From which version on, and what is different in the next one."""


def told(known: dict[str, tuple[int]], change: dict[str, tuple[int] | None]) -> dict[str, tuple[int]]:
    return {name: value for name, value in (known | change).items() if value is not None}


@STABLE
@given(steps, st.lists(st.integers(0, 10), max_size=12))
def test_every_version_stays_what_it_was(made: list[tuple[int, dict[str, tuple[int] | None]]], looks: list[int]) -> None:
    versions, plain = [Versions[tuple[int]]()], [dict[str, tuple[int]]()]
    for base, change in made:
        place = base % len(versions)
        versions.append(versions[place].with_(change))
        plain.append(told(plain[place], change))
    for look in looks:
        place = look % len(versions)
        assert (dict(versions[place]), len(versions[place])) == (plain[place], len(plain[place]))
    for version, known in zip(versions, plain, strict=True):
        for earlier, before in zip(versions, plain, strict=True):
            both = {name: (before.get(name), known.get(name)) for name in known.keys() | before.keys()}
            assert version.since(earlier) == {name: (was, now) for name, (was, now) in both.items() if was is not now}


def test_of_values_that_have_nothing_to_do_with_each_other_nothing_is_known() -> None:
    assert Versions({"a": 1}).since(Versions({"a": 1})) is None


@STABLE
@given(steps, st.lists(st.tuples(st.integers(0, 10), st.booleans()), max_size=8))
def test_a_roll_of_crowds_is_one_of_their_members(
    made: list[tuple[int, dict[str, tuple[int] | None]]], taken: list[tuple[int, bool]]
) -> None:
    versions, quick, plain = [Versions[tuple[int]]()], Roll[tuple[int]](), Roll[tuple[int]]()
    for base, change in made:
        versions.append(versions[base % len(versions)].with_(change))
    for place, is_crowd in taken:
        crowd = Crowd(versions[place % len(versions)])
        found, known = quick.take(crowd if is_crowd else tuple(crowd)), plain.take(tuple(crowd))
        for one, other in zip(found, known, strict=True):
            assert {id(each) for each in one} == {id(each) for each in other}
