"""Policy documents: read from a file, or from one of the presets that come with Corral."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from corral.api import QueueTree
from corral.cli.documents import STANDARD_INPUT, Document, parse_documents, read_documents
from corral.cli.problems import InvalidInput
from corral.cli.trees import Position
from corral.policy import DocumentKind, LintFinding, Policy

PRESETS = ("default", "kueue-like", "kai-like", "slurm-like", "tiresias-like")
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
    """A finding, and where in its file it is about; what is in force beside the document stands in none."""

    position: Position | None
    finding: LintFinding

    def __str__(self) -> str:
        severity = "" if self.finding.refuses else "warning: "
        return f"{self.position or IN_FORCE[self.finding.document]}: {severity}{self.finding}"

    @property
    def data(self) -> dict[str, object]:
        """The same for programs."""
        position = asdict(self.position) if self.position else {}
        return position | self.finding.model_dump(mode="json")


IN_FORCE = {DocumentKind.POLICY: "the policy in force", DocumentKind.QUEUES: "the queues in force"}


def placed(findings: Sequence[LintFinding], document: Document[Policy] | Document[QueueTree]) -> list[Placed]:
    """Findings about a document in the order of its lines, and after them those about what it would be in force with."""
    kind = DocumentKind.POLICY if isinstance(document.content, Policy) else DocumentKind.QUEUES
    here = [(document.place(found.field), found) for found in findings if found.document is kind]
    beside = [found for found in findings if found.document is not kind]
    return [
        *(Placed(position, found) for position, found in sorted(here, key=lambda each: (each[0], *_order(each[1])))),
        *(Placed(None, found) for found in sorted(beside, key=_order)),
    ]


def _order(found: LintFinding) -> tuple[str, str]:
    return found.field, found.rule
