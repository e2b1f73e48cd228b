"""YAML text read into plain data that knows the line and column of each value and each key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from corral.cli.problems import InvalidInput, Path, Problem, printable, shown

MAXIMUM_DEPTH = 32
MAXIMUM_DIGITS = 40

_CORE = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(slots=True)
class Tree:
    """One document: its plain data, where its values and keys stand, and what is wrong with it as YAML."""

    file: str
    data: Any = None
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    @property
    def fields(self) -> dict[str, Position]:
        """Where every field stands, by its path in words; the whole document's path is empty."""
        return {_spelled(path): self.keys.get(path, position) for path, position in self.values.items()}

    def position(self, problem: Problem) -> Position:
        """Where a problem is: at its key or its value; at the innermost value around it, if that is missing."""
        if problem.is_about_key and problem.path in self.keys:
            return self.keys[problem.path]
        ends = range(len(problem.path), -1, -1)
        return next(self.values[problem.path[:end]] for end in ends if problem.path[:end] in self.values)


def _spelled(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def parse(file: str, text: str) -> list[Tree]:
    """Parse the documents in a text, except those that are empty.

    Raises:
        InvalidInput: the text is not YAML.
    """
    return [_tree(file, node) for node in _roots(file, text) if not _is_empty(node)]


def _roots(file: str, text: str) -> list[Node]:
    """Compose the documents, without building anything from them."""
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAXIMUM_DEPTH
    yaml.composer.warn_double_anchors = False
    try:
        return list(yaml.compose_all(text))
    except MaxDepthExceededError as error:
        raise InvalidInput([f"{_position(file, error.problem_mark)}: nested deeper than {MAXIMUM_DEPTH} levels"]) from error
    except MarkedYAMLError as error:
        position = _position(file, error.problem_mark or error.context_mark)
        raise InvalidInput([f"{position}: not valid YAML: {_complaint(error)}"]) from error
    except ReaderError as error:
        position = _position_of_index(file, text, error.position)
        raise InvalidInput([f"{position}: not text: the character U+{error.character:04X} is not allowed"]) from error
    except (YAMLError, ValueError) as error:
        raise InvalidInput([f"{file}: not valid YAML: {shown(str(error))}"]) from error


def _complaint(error: MarkedYAMLError) -> str:
    return printable(", ".join(" ".join(part.split()) for part in (error.context, error.problem) if part))


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value == "" and node.style is None and node.anchor is None


def _position(file: str, mark: Any) -> Position:
    return Position(file, mark.line + 1, mark.column + 1)


def _position_of_index(file: str, text: str, index: int) -> Position:
    return Position(file, text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _tree(file: str, root: Node) -> Tree:
    tree = Tree(file)
    tree.data = _value(tree, root, ())
    return tree


def _value(tree: Tree, node: Node, path: Path) -> Any:
    """The plain data of a node. Anchors are refused, since aliases may stand for any amount of data."""
    tree.values.setdefault(path, _position(tree.file, node.start_mark))
    if node.anchor is not None:
        return _refuse(tree, node, (), "anchors and aliases (& and *) are not allowed; write the value out")
    match node:
        case MappingNode(tag="tag:yaml.org,2002:map"):
            return _mapping(tree, node, path)
        case SequenceNode(tag="tag:yaml.org,2002:seq"):
            return [_value(tree, entry, (*path, index)) for index, entry in enumerate(node.value)]
        case ScalarNode() if node.tag in _SCALARS:
            return _scalar(tree, node, path)
    return _refuse(tree, node, path, f"the tag {shown(str(node.tag).replace(_CORE, '!!'))} is not allowed; write a plain value")


def _mapping(tree: Tree, node: MappingNode, path: Path) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        at = (*path, str(key.value))
        if not isinstance(key, ScalarNode):
            _refuse(tree, key, path, "a list or a mapping cannot be a key; expected text")
        elif at in tree.keys:
            _refuse(tree, key, at, f"given twice; first on line {tree.keys[at].line}")
        else:
            tree.keys[at] = _position(tree.file, key.start_mark)
            if _is_empty(value):
                tree.values[at] = tree.keys[at]
            mapping[key.value] = _value(tree, value, at)
    return mapping


def _scalar(tree: Tree, node: ScalarNode, path: Path) -> Any:
    read = _SCALARS[str(node.tag)]
    if read in {_whole, _real} and len(node.value) > MAXIMUM_DIGITS:
        return _refuse(tree, node, path, f"{shown(node.value)} has too many digits; expected at most {MAXIMUM_DIGITS}")
    try:
        return read(node.value)
    except ValueError:
        return _refuse(tree, node, path, f"{shown(node.value)} is not a number")


def _refuse(tree: Tree, node: Node, path: Path, message: str) -> None:
    """Complain about a node, once: an aliased one is met several times."""
    line = f"{_position(tree.file, node.start_mark)}: {Problem(path, message)}"
    if line not in tree.complaints[-1:]:
        tree.complaints.append(line)


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits.lstrip("+-")[:2].lower() in {"0b", "0o", "0x"} else int(digits)


def _real(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    f"{_CORE}null": lambda text: None,
    f"{_CORE}bool": lambda text: text.lower() in {"true", "yes", "on"},
    f"{_CORE}int": _whole,
    f"{_CORE}float": _real,
    f"{_CORE}str": str,
    f"{_CORE}timestamp": str,
    f"{_CORE}merge": str,
    f"{_CORE}value": str,
}
"""How scalars are read, by tag. Times stay text, so that the model reads them."""
