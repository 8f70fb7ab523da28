"""Tasks by lines: JSON objects on standard input and output."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import threading
from typing import Optional


# What the kernel writes in one go: nobody waits for room for a part of it.
AT_ONCE = 4096
# What is read in one go.
READ = 256 << 10
# How a line begins that the server writes. One of this shape whose text has nothing escaped in it needs no reader of JSON.
PLAIN = re.compile(rb'\{"id":(\d+),"data":"')
# How bytes of a text are written that JSON wants to be written otherwise; the backslash first. To replace what is not there takes a fraction of what
# `json.dumps` takes to look at each letter.
ESCAPED = [(b"\\", b"\\\\"), (b'"', b'\\"'), *((bytes((code,)), b"\\u%04x" % code) for code in range(0x20))]


def read_line(line: bytes) -> Optional[tuple[int, bytes]]:
    """The task in a line; `None` for one that is none: the rest of one that was cut off."""
    # The next quote is the last one.
    if (plain := PLAIN.match(line)) and line.endswith(b'"}\n') and line.find(b'"', plain.end()) == len(line) - 3 and b"\\" not in line:
        return int(plain[1]), line[plain.end() : -3]
    try:
        task = json.loads(line)
        number = task["id"]
        data = task["data"].encode() if "data" in task else base64.b64decode(task["base64"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (number, data) if isinstance(number, int) else None


def said(number: int, word: str, data: bytes) -> bytes:
    """A line that gives something: text as it is, other bytes in base64."""
    try:
        data.decode()
    except UnicodeDecodeError:
        word, data = "base64" if word == "data" else "partBase64", base64.b64encode(data)
    else:
        for raw, written in ESCAPED:
            data = data.replace(raw, written)
    return b'{"id": %d, "%s": "%s"}\n' % (number, word.encode(), data)


def failed(number: int, message: str) -> bytes:
    """A line that says why there is nothing to give."""
    return json.dumps({"id": number, "error": message[:4096]}).encode() + b"\n"


def take_stdout() -> int:
    """A descriptor for lines. What the program prints from now on goes with its errors into the log."""
    sys.stdout.flush()
    taken = os.dup(1)
    os.dup2(2, 1)
    return taken


class Lines:
    """A channel of lines."""

    def __init__(self) -> None:
        self._in = os.fdopen(0, "rb", buffering=READ, closefd=False)
        self._out = os.fdopen(take_stdout(), "wb", buffering=0)
        self._sending = threading.Lock()

    def read(self) -> Optional[tuple[int, bytes]]:
        for line in self._in:
            if (task := read_line(line)) is not None:
                return task
        return None

    def give(self, number: int, result: bytes) -> None:
        self.send(said(number, "data", result))

    def part(self, number: int, part: bytes) -> None:
        self.send(said(number, "part", part))

    def fail(self, number: int, message: str) -> None:
        self.send(failed(number, message))

    def send(self, line: bytes) -> None:
        with self._sending:
            left = memoryview(line)
            while left:
                left = left[self._out.write(left) :]
