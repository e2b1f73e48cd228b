"""Balance: a preferred topology with replicas spread evenly over the fewest domains.

The smallest share of a domain is made as large as it can be, then the number of domains small. The rules are those of Kueue's
balanced placement (pkg/cache/scheduler/tas_balanced_placement.go).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, log2

from domain.placement.topology import (
    NO_FIT,
    Ask,
    Domain,
    Fit,
    Part,
    Tree,
    hand_down,
    sorted_domains,
    sorted_with_leader,
    summed,
)


@dataclass(frozen=True, slots=True)
class Greedy:
    """What taking the roomiest domains first would use: how many, and the last one with the leader and without."""

    number: int
    last_led: Domain | None
    last: Domain | None

    def most_even(self, slices: int) -> int:
        """The largest number of slices that each of as many domains could have at least."""
        bounds = [slices // self.number]
        bounds += [self.last_led.fit.led_slices] if self.last_led is not None else []
        bounds += [self.last.fit.slices] if self.last is not None else []
        return min(bounds)


def balanced(tree: Tree, count: int) -> list[Part] | None:
    """How many replicas (and the leader) go to which nodes in even shares, or none where that cannot be."""
    ask, slices = tree.ask, count // tree.ask.slice_size
    lowest_named = max(0, tree.narrowest - 1)
    if ask.in_one or ask.unconstrained or not slices or (ask.sliced and ask.first == ask.slice_level < lowest_named):
        return None
    least, candidates = _best_siblings(tree, slices)
    if least == 0:
        return None
    level = ask.first
    if level < ask.slice_level:
        chosen = fewest(candidates, slices, ask, by_entropy=True)
        if chosen is None:
            return None
        candidates, level = [child for domain in chosen for child in domain.children], level + 1
    parts = _even_parts(candidates, slices, least, ask)
    return None if parts is None else hand_down(tree, level, parts, balanced=True)


def _best_siblings(tree: Tree, slices: int) -> tuple[int, list[Domain]]:
    """Siblings at the preferred level that take all, with the largest smallest share; then those of which fewest do."""
    ask = tree.ask
    families = [list(tree.levels[0])] if ask.first == 0 else [list(parent.children) for parent in tree.levels[ask.first - 1]]
    best: tuple[int, int, list[Domain]] = (0, 0, [])
    for family in families:
        if (found := _even_family(family, slices, best[0], ask)) is None:
            continue
        if found[0] > best[0] or (found[0] == best[0] and found[1] < best[1]):
            best = found
    return best[0], best[2]


def _even_family(family: Sequence[Domain], slices: int, beat: int, ask: Ask) -> tuple[int, int, list[Domain]] | None:
    """The smallest share, the number of domains used and the domains without those that could not have that share."""
    below = [child for domain in family for child in domain.children] if ask.first < ask.slice_level else family
    use = greedy(below, slices, ask)
    if use is None or (least := use.most_even(slices)) < beat:
        return None
    reserving = least
    if ask.leader is not None and use.last is not None:
        reserving = min(least, use.last.fit.led_slices)
    for share in (least,) if reserving == least else (least, reserving):
        if share < max(beat, 1) and share != least:
            return None
        domains = [pruned(domain, share, ask) for domain in family]
        if (after := greedy(domains, slices, ask)) is not None:
            return share, after.number, domains
    return None


def greedy(domains: Sequence[Domain], slices: int, ask: Ask) -> Greedy | None:
    """Take the roomiest domains first, one with the leader before all; none where they do not take everything."""
    left, number = slices, 0
    last_led: Domain | None = None
    last: Domain | None = None
    others = list(domains)
    if ask.leader is not None:
        with_leader = sorted_with_leader(domains, ask)
        if not with_leader or not with_leader[0].fit.takes_leader:
            return None
        last_led, others, number = with_leader[0], with_leader[1:], 1
        left -= last_led.fit.led_slices
    for domain in sorted_domains(others, ask):
        if left <= 0 or domain.fit.slices == 0:
            break
        last, number = domain, number + 1
        left -= domain.fit.slices
    return None if left > 0 else Greedy(number, last_led, last)


def pruned(domain: Domain, least: int, ask: Ask) -> Domain:
    """The domain without what cannot have the smallest share: whole children, or their place for the leader."""
    if ask.first < ask.slice_level:
        children = tuple(_kept(child, least, ask) for child in domain.children)
        domain = domain._replace(children=children, fit=summed(ask, ask.first, children))
    return _kept(domain, least, ask)


def _kept(domain: Domain, least: int, ask: Ask) -> Domain:
    fit = domain.fit
    if fit.slices < least:
        return _without(domain, NO_FIT)
    if ask.leader is not None and fit.takes_leader and fit.led_slices < least:
        return _without(domain, None)
    return domain


def _without(domain: Domain, fit: Fit | None) -> Domain:
    """The domain, and all below it, with this fit, or without a place for the leader."""
    left = domain.fit._replace(led_replicas=0, led_slices=0, takes_leader=False) if fit is None else fit
    return domain._replace(fit=left, children=tuple(_without(child, fit) for child in domain.children))


State = tuple[int, int]
"""Leaders and replicas that still have no place."""


def fewest(domains: Sequence[Domain], slices: int, ask: Ask, *, by_entropy: bool) -> list[Domain] | None:
    """As few domains as can be with as little room over as can be, found by dynamic programming over what is left to place."""
    use = greedy(domains, slices, ask)
    if use is None:
        return None
    start = (0 if ask.leader is None else 1, slices * ask.slice_size)
    reached: list[dict[State, tuple[Domain, ...]]] = [{start: ()}, *({} for _ in range(use.number))]
    for domain in sorted(domains, key=_by_entropy if by_entropy else _by_name):
        for number in range(use.number, 0, -1):
            for state in sorted(reached[number - 1]):
                for after in _after(state, domain):
                    reached[number].setdefault(after, (*reached[number - 1][state], domain))
    enough = [left for leaders, left in reached[use.number] if leaders == 0 and left <= 0]
    return list(reached[use.number][0, max(enough)]) if enough else None


def _after(state: State, domain: Domain) -> Iterable[State]:
    leaders, left = state
    if leaders <= 0 and left <= 0:
        return
    if leaders > 0 and domain.fit.takes_leader:
        yield leaders - 1, left - domain.fit.led_replicas
    if domain.fit.slices > 0:
        yield leaders, left - domain.fit.replicas


def _by_name(domain: Domain) -> tuple[str, ...]:
    return domain.path


def _by_entropy(domain: Domain) -> tuple[bool, int, float, tuple[str, ...]]:
    """Roomy domains first, then those whose room is spread most evenly over their children."""
    fit = domain.fit
    return not fit.takes_leader, -fit.led_slices, -entropy([child.fit.replicas for child in domain.children]), domain.path


def entropy(numbers: Iterable[int]) -> float:
    """Shannon's entropy of these parts of their sum, in bits."""
    some = sorted(number for number in numbers if number)
    total = sum(some)
    return fsum(-number / total * log2(number / total) for number in some)


def _even_parts(domains: Sequence[Domain], slices: int, least: int, ask: Ask) -> list[Part] | None:
    """The smallest share to every chosen domain, and what is over to the first that have room."""
    chosen = fewest(domains, slices, ask, by_entropy=False)
    if chosen is None or slices < len(chosen) * least:
        return None
    over, led = slices - len(chosen) * least, ask.leader is not None
    parts = []
    for domain in sorted_with_leader(chosen, ask):
        room = domain.fit.led_slices if led else domain.fit.slices
        more = min(room - least, over)
        parts.append(Part(domain, (least + more) * ask.slice_size, led))
        over, led = over - more, False
    return None if over else parts
