"""Lines: jobs in the order in which a tree of queues lets them have their turn, or gives them up."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush

from domain.quota.usage import Usage
from domain.quota_models.deserved.books import Amounts, Books, TurnKey
from domain.quota_models.deserved.jobs import JobRank
from domain.quota_models.deserved.lineup import Entry, Lineup, Procession


class Line:
    """Who is next; it lives inside one call.

    Every level of the tree lets the child go first whose key is smallest with the next of its jobs. Backwards it is the line
    of victims: the last child, the last job, and what was popped counts as taken away from its queues.

    Who is like one whose turn changed nothing would change nothing either, and follows it in the line at once: whoever stood
    before their queue then stands behind what that one asked for. So nobody looks at them until something has changed.
    """

    def __init__(self, books: Books, usage: Usage, lineup: Lineup, *, backwards: bool = False) -> None:
        self._books, self._usage, self._backwards = books, usage, backwards
        self._queues: dict[str, _Queue] = {}
        self._children: dict[str | None, set[str]] = {}
        self._taken: Counter[tuple[str, str]] = Counter()
        self._keys: dict[str, TurnKey] = {}
        self._latest: Entry | None = None
        for entry in lineup.entries:
            self.push(entry)
        for peers in lineup.peers:
            if (procession := Procession(peers, lineup.backlog)).head is not None:
                self._queue(peers.example.queue).admit(procession)

    def push(self, entry: Entry) -> None:
        """Put a job in line."""
        self._queue(entry.queue).push(entry)
        self._forget(entry.queue)

    def next(self) -> Entry | None:
        """Take the next job out of line, or none when nobody is left."""
        if self._latest is not None:
            self._finish(self._latest.queue)
        if not self._children.get(None):
            return None
        leaf = self._leaf(None)
        self._latest = entry = self._queues[leaf].pop()
        self._forget(leaf)
        for queue in self._books.tree.paths[leaf] if self._backwards else ():
            self._taken.update({(queue, sku): amount for sku, amount in entry.amounts.items()})
        return entry

    def pass_over(self) -> None:
        """The turn of whoever was next changed nothing: let nobody who is like it have one before something has changed."""
        if self._latest is not None:
            self._queues[self._latest.queue].pass_over()

    def see(self, usage: Usage, queues: Iterable[str]) -> None:
        """Go on in another world, in which what is in use differs only in these queues and above them."""
        self._usage = usage
        for name, queue in self._queues.items():
            queue.wake(self._latest.rank if self._latest is not None and self._latest.queue == name else None)
        for name in queues:
            self._forget(name)

    def _queue(self, name: str) -> "_Queue":
        if name not in self._queues:
            self._queues[name] = _Queue(backwards=self._backwards)
            path = self._books.tree.paths[name]
            for node, parent in zip(path, (*path[1:], None), strict=True):
                self._children.setdefault(parent, set()).add(node)
        return self._queues[name]

    def _leaf(self, parent: str | None) -> str:
        choose = max if self._backwards else min
        node = choose(self._children[parent], key=self._key)
        return node if node in self._queues else self._leaf(node)

    def _key(self, node: str) -> TurnKey:
        if node not in self._keys:
            self._keys[node] = self._books.turn_key(node, self._usage, self._change(node))
        return self._keys[node]

    def _change(self, node: str) -> Amounts:
        following = self._queues[node if node in self._queues else self._leaf(node)].head.amounts
        if not self._backwards:
            return following
        return {sku: -self._taken[node, sku] - following.get(sku, 0) for sku in self._books.names}

    def _forget(self, queue: str) -> None:
        for name in self._books.tree.paths[queue]:
            self._keys.pop(name, None)

    def _finish(self, leaf: str) -> None:
        """A turn of the queue is over: without anybody left it is out of line, and so is whatever above it has nobody else."""
        if (queue := self._queues.get(leaf)) is None:
            return
        queue.settle()
        if queue:
            return
        del self._queues[leaf]
        path = self._books.tree.paths[leaf]
        for name, parent in zip(path, (*path[1:], None), strict=True):
            self._children[parent].discard(name)
            if self._children[parent]:
                break


class _Queue:
    """Those of one queue in the order of their ranks."""

    def __init__(self, *, backwards: bool) -> None:
        self._next = -1 if backwards else 0
        self._entries: list[Entry] = []
        self._processions: list[tuple[JobRank, Entry, Procession]] = []
        """Of peers, as a heap, each with who leads it."""
        self._latest: Procession | None = None
        """Those whose turn it was."""
        self._passed_over: list[Procession] = []

    def __bool__(self) -> bool:
        return bool(self._entries or self._processions)

    @property
    def head(self) -> Entry:
        """The next one, where there is one."""
        return self._entries[self._next] if self._is_single_next() else self._processions[0][1]

    def push(self, entry: Entry) -> None:
        """Put one job in line."""
        insort(self._entries, entry, key=lambda entry: entry.rank)

    def admit(self, procession: Procession) -> None:
        """Put peers in line, if any are left of them."""
        if (leader := procession.head) is not None:
            heappush(self._processions, (leader.rank, leader, procession))

    def pop(self) -> Entry:
        """Take the next one out of line; those who are like it follow when it is done."""
        if self._is_single_next():
            return self._entries.pop(self._next)
        _, entry, self._latest = heappop(self._processions)
        self._latest.step()
        return entry

    def settle(self) -> None:
        """Whoever had the turn is done."""
        if self._latest is not None:
            self.admit(self._latest)
            self._latest = None

    def pass_over(self) -> None:
        """Whoever had the turn is done, and those who are like it have none until somebody wakes them."""
        if self._latest is not None:
            self._passed_over.append(self._latest)
            self._latest = None

    def wake(self, reached: JobRank | None) -> None:
        """Put those in line again who were passed over, behind the rank that was reached: that of the next one, if not told."""
        self.settle()
        if reached is not None or self:
            self._put_back(reached or self.head.rank)
        self._passed_over = []

    def _put_back(self, reached: JobRank) -> None:
        for procession in self._passed_over:
            procession.pass_by(reached)
            self.admit(procession)

    def _is_single_next(self) -> bool:
        entries, processions = self._entries, self._processions
        return bool(entries) and (not processions or entries[self._next].rank < processions[0][0])
