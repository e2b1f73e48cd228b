"""The connection that the options of the command line describe."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.service import TLSConfig

from corral.cli.problems import InvalidInput, printable, shown
from corral.client import Corral, Unreachable
from corral.client.errors import why_no_connection
from corral.sealing import keys_of
from corral.signing import Signer, signer_of
from corral.tls import tls_of

CONNECT_WITHIN_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom to trust over TLS, and who asks."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    @property
    def options(self) -> str:
        """The options by which it was given."""
        given = (self.authority, self.certificate, self.key, self.server_name)
        names = ("--tls-authority", "--tls-certificate", "--tls-key", "--tls-server-name")
        return ", ".join(name for name, value in zip(names, given, strict=True) if value is not None)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where Corral is, and who asks."""

    address: str
    namespace: str
    pool: str
    api_key: str | None = field(default=None, repr=False)
    tls: bool = False
    identity: Identity = Identity()
    payload_keys: str | None = field(default=None, repr=False)
    principal: str | None = None
    signing_key: Path | None = None

    async def open(self) -> Corral:
        """Connect.

        Raises:
            InvalidInput: an option is not acceptable.
            Unreachable: nothing answers at the address.
        """
        no_address = InvalidInput([f"--address: {shown(self.address)} is not host:port, such as 127.0.0.1:7233"])
        if not re.fullmatch(r"(\[[^\s\]]+\]|[^\s/:]+):[0-9]{1,5}", self.address):
            raise no_address
        tls, signer = self._tls(), self._signer()
        with _told_of("--payload-keys"):
            keys_of(self.payload_keys) if self.payload_keys is not None else None
        try:
            async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
                return await Corral.connect(
                    self.address,
                    namespace=self.namespace,
                    pool=self.pool,
                    api_key=self.api_key,
                    tls=tls,
                    payload_keys=self.payload_keys,
                    signer=signer,
                )
        except ValueError as error:
            raise no_address from error
        except (Unreachable, TimeoutError) as error:
            advice = "is `make up` running, and are --address (CORRAL_TEMPORAL_ADDRESS), --tls and --api-key right?"
            cause = error.__cause__
            why = printable(why_no_connection(str(cause))) if cause else f"no answer within {CONNECT_WITHIN_SECONDS} s"
            raise Unreachable(f"no Temporal server answers at {self.address}: {why}\n  {advice}") from error

    def _signer(self) -> Signer | None:
        if self.principal is None and self.signing_key is None:
            return None
        if self.principal is None or self.signing_key is None:
            given, missing = ("--principal", "--signing-key") if self.principal else ("--signing-key", "--principal")
            raise InvalidInput([f"{given}: {missing} is expected beside it"])
        with _told_of("--signing-key"):
            return signer_of(self.principal, self.signing_key)

    def _tls(self) -> TLSConfig | bool:
        if not self.tls:
            for options in filter(None, (self.api_key and "--api-key", self.identity.options)):
                raise InvalidInput([f"{options}: --tls is expected beside it"])
            return False
        given = self.identity
        with _told_of(given.options):
            return tls_of(
                authority=given.authority, certificate=given.certificate, key=given.key, server_name=given.server_name
            )


@contextmanager
def _told_of(options: str) -> Iterator[None]:
    """Turn what is wrong with a value into an error for people, by the names of its options."""
    try:
        yield
    except ValueError as error:
        raise InvalidInput([f"{options}: {error}"]) from error
