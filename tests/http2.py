"""Calls as whoever passes them on sees them: the headers of each request on an HTTP/2 connection (RFC 9113, 7541)."""

from collections.abc import Mapping

from hpack import Decoder

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
HEAD = 9
HEADERS, CONTINUATION = 0x1, 0x9
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20


class Requests:
    """Reads what a client sends on one connection, in chunks of any size."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._unread = b""
        self._preface = PREFACE
        self._block = b""

    def read(self, chunk: bytes) -> list[Mapping[str, str]]:
        """The headers of the requests that have come with this chunk."""
        self._unread += chunk
        skipped = min(self._preface, len(self._unread))
        self._unread, self._preface = self._unread[skipped:], self._preface - skipped
        found = list[Mapping[str, str]]()
        while len(self._unread) >= HEAD:
            end = HEAD + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                break
            kind, flags, payload = self._unread[3], self._unread[4], self._unread[HEAD:end]
            self._unread = self._unread[end:]
            if kind in {HEADERS, CONTINUATION}:
                self._block += _fragment(payload, flags) if kind == HEADERS else payload
                if flags & END_HEADERS:
                    found.append({str(name): str(value) for name, value in self._decoder.decode(self._block)})
                    self._block = b""
        return found


def _fragment(payload: bytes, flags: int) -> bytes:
    padding = 0
    if flags & PADDED:
        padding, payload = payload[0], payload[1:]
    if flags & PRIORITY:
        payload = payload[5:]
    return payload[: len(payload) - padding]
