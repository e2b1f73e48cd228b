"""Lines: jobs in the order in which a tree of queues lets them have their turn, or gives them up."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from domain.deserved.books import Amounts, Books, TurnKey
from domain.deserved.jobs import JobRank
from domain.quota import Usage


@dataclass(frozen=True, slots=True)
class Entry:
    """One job in line: its rank inside its queue, and the amounts that its turn is about."""

    job_id: str
    queue: str
    rank: JobRank
    amounts: Amounts


class Line:
    """Who is next; it lives inside one call.

    Every level of the tree lets the child go first whose key is smallest with the next of its jobs. Backwards it is the line
    of victims: the last child, the last job, and what was popped counts as taken away from its queues.
    """

    def __init__(self, books: Books, usage: Usage, entries: Iterable[Entry], *, backwards: bool = False) -> None:
        self._books, self._usage, self._backwards = books, usage, backwards
        self._entries: dict[str, list[Entry]] = {}
        self._children: dict[str | None, set[str]] = {}
        self._taken: Counter[tuple[str, str]] = Counter()
        self._keys: dict[str, TurnKey] = {}
        for entry in entries:
            self.push(entry)

    def __bool__(self) -> bool:
        return bool(self._children.get(None))

    def push(self, entry: Entry) -> None:
        """Put a job in line."""
        insort(self._entries.setdefault(entry.queue, []), entry, key=lambda entry: entry.rank)
        path = self._books.tree.paths[entry.queue]
        for name, parent in zip(path, (*path[1:], None), strict=True):
            self._children.setdefault(parent, set()).add(name)
        self._forget(entry.queue)

    def pop(self) -> Entry:
        """Take the next job out of line."""
        leaf = self._leaf(None)
        entry = self._entries[leaf].pop(-1 if self._backwards else 0)
        self._forget(leaf)
        for queue in self._books.tree.paths[leaf] if self._backwards else ():
            self._taken.update({(queue, sku): amount for sku, amount in entry.amounts.items()})
        self._prune(leaf)
        return entry

    def see(self, usage: Usage, queues: Iterable[str]) -> None:
        """Go on with another use of the tree that differs only in these queues and above them."""
        self._usage = usage
        for queue in queues:
            self._forget(queue)

    def _leaf(self, parent: str | None) -> str:
        choose = max if self._backwards else min
        node = choose(self._children[parent], key=self._key)
        return node if node in self._entries else self._leaf(node)

    def _key(self, node: str) -> TurnKey:
        if node not in self._keys:
            self._keys[node] = self._books.turn_key(node, self._usage, self._change(node))
        return self._keys[node]

    def _change(self, node: str) -> Amounts:
        leaf = node if node in self._entries else self._leaf(node)
        following = self._entries[leaf][-1 if self._backwards else 0].amounts
        if not self._backwards:
            return following
        return {sku: -self._taken[node, sku] - following.get(sku, 0) for sku in self._books.names}

    def _forget(self, queue: str) -> None:
        for name in self._books.tree.paths[queue]:
            self._keys.pop(name, None)

    def _prune(self, leaf: str) -> None:
        if self._entries[leaf]:
            return
        del self._entries[leaf]
        path = self._books.tree.paths[leaf]
        for name, parent in zip(path, (*path[1:], None), strict=True):
            self._children[parent].discard(name)
            if self._children[parent]:
                break
