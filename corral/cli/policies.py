"""Policy documents: read from a file, or from one of the presets that come with Corral."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from corral.api import QueueTree
from corral.cli.documents import STANDARD_INPUT, Document, parse_documents, read_documents
from corral.cli.problems import InvalidInput
from corral.cli.trees import Position
from corral.policy import LintFinding, Policy

PRESETS = ("default", "kueue-like", "kai-like", "slurm-like")
"""The names by which the documents in `corral/presets` are chosen."""


def read_policy(source: str) -> Document[Policy]:
    """Read a policy: the preset of that name, else the file; `-` is the standard input.

    Raises:
        InvalidInput: the document is not valid, or there is more than one.
    """
    if source not in PRESETS and source != STANDARD_INPUT and not Path(source).exists():
        raise InvalidInput([f"{source}: neither a file nor a preset; the presets are {', '.join(PRESETS)}"])
    first, *others = _preset(source) if source in PRESETS else read_documents([source], Policy)
    if others:
        raise InvalidInput([f"{others[0].position}: a second document; a policy is one document"])
    return first


def _preset(name: str) -> list[Document[Policy]]:
    file = f"{name}.yaml"
    return parse_documents(f"presets/{file}", (resources.files("corral") / "presets" / file).read_bytes(), Policy)


@dataclass(frozen=True, slots=True)
class Placed:
    """A finding, and where in its file it is about."""

    position: Position
    finding: LintFinding

    def __str__(self) -> str:
        return f"{self.position}: {self.finding}"

    @property
    def data(self) -> dict[str, object]:
        """The same for programs."""
        position = self.position
        return {"file": position.file, "line": position.line, "column": position.column} | self.finding.model_dump(mode="json")


def placed(findings: Iterable[LintFinding], document: Document[Policy] | Document[QueueTree]) -> list[Placed]:
    """Findings about a document, in the order of its lines."""
    return sorted((Placed(document.place(found.field), found) for found in findings), key=_order)


def _order(found: Placed) -> tuple[Position, str, str]:
    return found.position, found.finding.field, found.finding.rule
