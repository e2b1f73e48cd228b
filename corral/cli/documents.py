"""Documents: YAML files read into models, with a line for each problem that names file, line, column and field."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from corral.cli.problems import InvalidInput, problems
from corral.cli.trees import Position, Tree, parse
from corral.client import Conflict, Invalid, NotFound

STANDARD_INPUT = "-"
MAXIMUM_BYTES = 1 << 20

Content = TypeVar("Content", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Document(Generic[Content]):
    """A valid document, where it begins, and where its fields stand."""

    position: Position
    content: Content
    fields: Mapping[str, Position]

    def place(self, field: str) -> Position:
        """Where a field stands, such as `queues[0].name`; one that is not written down, where what it belongs to stands."""
        while field not in self.fields:
            field = field[: max(field.rfind("."), field.rfind("["), 0)]
        return self.fields[field]


def read_documents(files: Iterable[str], model: type[Content]) -> list[Document[Content]]:
    """Read all documents of all files; `-` is the standard input.

    Raises:
        InvalidInput: something is wrong with them; all problems of all files are told.
    """
    documents: list[Document[Content]] = []
    lines: list[str] = []
    for file in files:
        try:
            documents += parse_documents("<stdin>" if file == STANDARD_INPUT else file, _bytes_of(file), model)
        except InvalidInput as error:
            lines += error.lines
    if lines:
        raise InvalidInput(lines)
    return documents


def read_named(
    files: Iterable[str], model: type[Content], name: Callable[[Content], str], whose: str, consequence: str
) -> list[Document[Content]]:
    """Read all documents of all files, each of which has an id of its own: that of a `whose`, such as workload.

    Raises:
        InvalidInput: something is wrong with them, or two have the same id; the consequence is told.
    """
    try:
        documents = read_documents(files, model)
        seen: dict[str, Position] = {}
        repeated = [
            f"{document.position}: id: {name(document.content)!r} is the id of the {whose} at {first}; each needs its own"
            for document in documents
            if (first := seen.setdefault(name(document.content), document.position)) is not document.position
        ]
        if repeated:
            raise InvalidInput(repeated)
    except InvalidInput as error:
        raise InvalidInput(error.lines, consequence) from error
    return documents


@contextmanager
def placed(document: Document[Content]) -> Iterator[None]:
    """Let what Corral says of a document begin with where that stands: at the field that it is about, else at its beginning."""
    try:
        yield
    except (Invalid, Conflict, NotFound) as error:
        place = document.place(str(error).partition(": ")[0])
        error.args = (f"{place}: {error}",)
        raise


def _bytes_of(file: str) -> bytes:
    """The content of a file, of which no more is read than shows that there is too much."""
    try:
        if file == STANDARD_INPUT:
            return sys.stdin.buffer.read(MAXIMUM_BYTES + 1)
        with Path(file).open("rb") as stream:
            return stream.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InvalidInput([f"{file}: cannot be read: {error.strerror}"]) from error


def parse_documents(file: str, content: bytes, model: type[Content]) -> list[Document[Content]]:
    """Parse the documents in a file's content; empty ones do not count, but there must be one that is not.

    Raises:
        InvalidInput: something is wrong with them.
    """
    trees = parse(file, _text(file, content))
    if not trees:
        raise InvalidInput([f"{file}: empty; expected a YAML document with {_needed(model)}"])
    lines = [line for tree in trees for line in tree.complaints or _complaints(tree, model)]
    if lines:
        raise InvalidInput(lines)
    return [Document(tree.values[()], model.model_validate(tree.data), tree.fields) for tree in trees]


def _needed(model: type[BaseModel]) -> str:
    """What a document must have; where nothing is required, it has at least something of what it may have."""
    required = [f"`{name}`" for name, info in model.model_fields.items() if info.is_required()]
    return " and ".join(required) or f"at least one of {', '.join(f'`{name}`' for name in model.model_fields)}"


def _text(file: str, content: bytes) -> str:
    if len(content) > MAXIMUM_BYTES:
        raise InvalidInput([f"{file}: larger than 1 MiB ({MAXIMUM_BYTES} bytes); split it into several files"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise InvalidInput([f"{Position(file, line, column)}: not text in UTF-8; expected a YAML file"]) from error


def _complaints(tree: Tree, model: type[BaseModel]) -> list[str]:
    try:
        model.model_validate(tree.data)
    except ValidationError as error:
        placed = [(tree.position(problem), str(problem)) for problem in problems(error, model, tree.data)]
        return [f"{position}: {problem}" for position, problem in sorted(placed)]
    return []
