"""The documents that lint reads, and the words in which its rules complain."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.api import QueueSpec
from corral.policy import DocumentKind, Policy
from domain.worlds.law import Law


@dataclass(frozen=True, slots=True)
class Documents:
    """A policy, and the tree of queues that it meets, where that is known; places in the tree are indices into `queues`."""

    policy: Policy
    queues: tuple[QueueSpec, ...] = ()
    law: Law = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "law", Law.of(self.policy.constraints))

    @property
    def by_name(self) -> Mapping[str, QueueSpec]:
        """The queues of the tree."""
        return {queue.name: queue for queue in self.queues}

    def path(self, queue: str) -> tuple[str, ...]:
        """From a queue to its root; the queue alone where the tree is not known."""
        path, by_name = [queue], self.by_name
        while (found := by_name.get(path[-1])) is not None and found.parent is not None and found.parent not in path:
            path.append(found.parent)
        return tuple(path)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a rule has to say about one field."""

    field: str
    message: str
    advice: str
    document: DocumentKind = DocumentKind.POLICY


def listed(names: object) -> str:
    """Names as people read them."""
    return ", ".join(str(name) for name in names) if isinstance(names, (tuple, list)) else str(names)
