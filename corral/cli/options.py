"""The options that several commands share."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from corral.cli.problems import nearest
from corral.cli.render import Form

PREFIX = "CORRAL_"
"""What the names of all variables begin with that Corral reads from the environment."""

OF_CLIENTS = frozenset({"CORRAL_PRINCIPAL", "CORRAL_SIGNING_KEY"})
"""Those that no worker reads."""

ALIKE = 0.9
"""How much an unknown variable must have in common with an option's, so as not to be one that only workers read."""

WorkloadId = Annotated[str, typer.Argument(metavar="ID", help="The workload's id.", show_default=False)]
Output = Annotated[Form | None, typer.Option("--output", "-o", help="How to write the answer: table, if nothing is said.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Ask again and again, and show what has changed.")]
Interval = Annotated[float, typer.Option("--interval", min=0.05, max=3600, help="Seconds between questions with --watch.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the workload's history.")]

TlsAuthority = Annotated[
    Path | None,
    typer.Option("--tls-authority", envvar="CORRAL_TEMPORAL_TLS_AUTHORITY", help="PEM file with certificates to trust."),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option("--tls-certificate", envvar="CORRAL_TEMPORAL_TLS_CERTIFICATE", help="PEM file with the certificate to show."),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", envvar="CORRAL_TEMPORAL_TLS_KEY", help="PEM file with the key of that certificate."),
]
TlsServerName = Annotated[
    str | None,
    typer.Option("--tls-server-name", envvar="CORRAL_TEMPORAL_TLS_SERVER_NAME", help="The name in the server's certificate."),
]
PrincipalName = Annotated[
    str | None, typer.Option("--principal", envvar="CORRAL_PRINCIPAL", help="Who asks, where the pool wants to know that.")
]
SigningKey = Annotated[
    Path | None,
    typer.Option("--signing-key", envvar="CORRAL_SIGNING_KEY", help="File with the private key of whoever asks."),
]
PayloadKeys = Annotated[
    str | None,
    typer.Option("--payload-keys", envvar="CORRAL_PAYLOAD_KEYS", help="The keys of sealed payloads, as id:base64,..."),
]


def misspelt(environment: Iterable[str], context: typer.Context) -> Iterator[str]:
    """What to say of variables that no option of the command reads, and that are named like those that one does."""
    given = (option.envvar for option in context.command.params)
    known = sorted(name for name in given if isinstance(name, str))
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and (near := nearest(name, known, ALIKE)):
            yield f"{name} is not read; did you mean {' or '.join(near)}?"
