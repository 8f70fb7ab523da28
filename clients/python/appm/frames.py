"""Frames: four bytes of length, one of kind, four of number, two of the head's length; the head, a JSON object; the rest."""

from __future__ import annotations

import json
import math
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional

from .errors import ConnectionLost

PREFACE = b"\0appm/1\n"
SEND, CANCEL, WORK, GIVE, PART, FAIL = range(1, 7)
RESULT, TOLD_PART, REFUSED, TASK, GONE = range(129, 134)

# The longest payload, and the longest result.
LONGEST = 64 << 20
_LONGEST_HEAD = 0xFFFF

_FIXED = struct.Struct(">IBIH")


class Frame(NamedTuple):
    """What has come."""

    kind: int
    number: int
    head: bytes
    body: bytes


def frame(kind: int, number: int, head: bytes = b"", body: bytes = b"") -> bytes:
    """A frame as it is sent."""
    return b"".join((frame_of(kind, number, head, len(body)), body))


def frame_of(kind: int, number: int, head: bytes, length: int) -> bytes:
    """What goes before so many bytes."""
    return _FIXED.pack(7 + len(head) + length, kind, number, len(head)) + head


class Reader:
    """Puts together what comes in pieces."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        self._kept += data

    def missing(self) -> int:
        """How many bytes there are to come of the frame that has begun, as far as that is known."""
        kept = len(self._kept)
        return 4 + int.from_bytes(self._kept[:4], "big") - kept if kept >= 4 else 11 - kept

    def next(self) -> Optional[Frame]:
        """The next frame, if all of it is there."""
        kept = self._kept
        if len(kept) < _FIXED.size:
            return None
        length, kind, number, head = _FIXED.unpack_from(kept)
        if length > 7 + _LONGEST_HEAD + LONGEST:
            raise ConnectionLost("what answers there is no appm server: it speaks otherwise")
        if len(kept) < 4 + length:
            return None
        body = _FIXED.size + head
        with memoryview(kept) as view:
            read = Frame(kind, number, bytes(view[_FIXED.size : body]), bytes(view[body : 4 + length]))
        del kept[: 4 + length]
        return read


@lru_cache(maxsize=256)
def order(app: str, namespace: str, timeout: Optional[float], idempotent: bool, stream: bool) -> bytes:
    """The head of a task."""
    head: dict[str, object] = {"app": app}
    if namespace != "default":
        head["namespace"] = namespace
    if timeout is not None:
        if not 0 < timeout < math.inf:
            raise ValueError(f"timeout is how many seconds are waited, and not {timeout}: without one it is the App's")
        head["timeout"] = f"{timeout * 1000:.0f}ms"
    if idempotent:
        head["idempotent"] = True
    if stream:
        head["stream"] = True
    return json.dumps(head).encode()


def socket_path(given: Optional[str]) -> str:
    """Where the server listens: as given, as a process of an App is told, or as the command line finds it."""
    if given is not None:
        return given
    if "APPM_SOCKET" in os.environ:
        return os.environ["APPM_SOCKET"]
    if "APPM_DATA_DIR" in os.environ:
        return str(Path(os.environ["APPM_DATA_DIR"], "appm.sock"))
    if os.geteuid() == 0:
        return "/var/lib/appm/appm.sock"
    shared = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return str(Path(shared, "appm", "appm.sock"))


def data(value: "bytes | bytearray | memoryview | str | None") -> bytes:
    """What a program gives, as bytes: text is UTF-8, nothing is nothing.

    Whatever else there is a reading for as bytes (a number is so many zeros) is a mistake of whoever gives it.
    """
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected bytes, str or None, and not {type(value).__name__}: json.dumps(…) makes text of most values")
    if (size := memoryview(value).nbytes) > LONGEST:
        raise ValueError(f"{size} bytes are more than one task or result may have: {LONGEST}")
    return bytes(value)
