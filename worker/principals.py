"""The file of principals: whose commands are believed by which key, and what each may do."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from corral.api import Identifier, Model
from corral.cli.documents import read_documents
from corral.signing import key_bytes
from domain.operations.roles import Grant, Role


def _public_key(text: str) -> str:
    key_bytes(text)
    return text


class GrantEntry(Model):
    """A role, and the queues on which it is granted, with all below them; none for one that operates the pool."""

    role: Role
    queues: Annotated[tuple[Identifier, ...], Field(max_length=1_000)] = ()

    @model_validator(mode="after")
    def _queues_where_they_count(self) -> Self:
        if self.role is Role.OPERATE and self.queues:
            raise ValueError("to operate is a role on the whole pool; expected no queues")
        if self.role is not Role.OPERATE and not self.queues:
            raise ValueError(f"the role {self.role} is granted on queues; expected at least one")
        return self

    @property
    def grant(self) -> Grant:
        """The same for the domain."""
        return Grant(self.role, self.queues)


class Principal(Model):
    """Somebody who gives commands, and its public key."""

    name: Identifier
    key: Annotated[str, AfterValidator(_public_key)]
    grants: Annotated[tuple[GrantEntry, ...], Field(max_length=100)] = ()


class Principals(Model):
    """All who may give commands."""

    principals: Annotated[tuple[Principal, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [each.name for each in self.principals]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is there twice; each principal has one entry")
        return self

    def named(self, name: str) -> Principal | None:
        """The principal of that name."""
        return next((each for each in self.principals if each.name == name), None)


class PrincipalsFile:
    """The principals in a file, which is read again when it has changed, so that a key can be taken back at once."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            corral.cli.problems.InvalidInput: the document is not valid.
        """
        self._path = path
        self._read_at = -1
        self._principals = Principals(principals=())
        self.now()

    def now(self) -> Principals:
        """Who is in it now.

        Raises:
            corral.cli.problems.InvalidInput: the document is not valid any more.
        """
        changed_at = self._path.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._principals = read_documents([str(self._path)], Principals)[0].content
            self._read_at = changed_at
        return self._principals
