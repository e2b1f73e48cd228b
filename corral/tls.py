"""TLS to a Temporal server: whom to trust, and who one is, from files."""

import ssl
from pathlib import Path

from temporalio.service import TLSConfig


def tls_of(
    *,
    authority: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    server_name: str | None = None,
) -> TLSConfig:
    """What to tell Temporal's client; without anything, the authorities of this machine are trusted.

    `authority` has the certificates of whom to trust, `certificate` and `key` say who one is, all as PEM. `server_name` is the
    name in the server's certificate, where that is not the one that is dialled.

    Raises:
        ValueError: a file has not what it should, or certificate and key do not belong together.
    """
    return TLSConfig(
        server_root_ca_cert=checked_authority(authority).read_bytes() if authority else None,
        client_cert=certificate.read_bytes() if certificate else None,
        client_private_key=checked_key(certificate, key).read_bytes() if key or certificate else None,
        domain=server_name,
    )


def checked_authority(file: Path) -> Path:
    """A file with certificates.

    Raises:
        ValueError: it has none.
    """
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:  # that of SSL is one of them
        raise ValueError(f"a file with certificates as PEM is expected ({_reason(error)})") from error
    return file


def checked_key(certificate: Path | None, key: Path | None) -> Path:
    """The key that belongs to a certificate.

    Raises:
        ValueError: one of both is missing, or they do not belong together.
    """
    if certificate is None or key is None:
        raise ValueError("a certificate and its key are expected, or neither")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        expected = f"the key of the certificate in {certificate}, as PEM and without a password, is expected"
        raise ValueError(f"{expected} ({_reason(error)})") from error
    return key


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
