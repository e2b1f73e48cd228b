"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from corral.cli.render import Form

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
