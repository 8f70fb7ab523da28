"""Tasks by lines: JSON objects on standard input and output."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from typing import Any, Optional


# What the kernel writes in one go: nobody waits for room for a part of it.
AT_ONCE = 4096


def read_line(line: bytes) -> Optional[tuple[int, bytes]]:
    """The task in a line; `None` for one that is none: the rest of one that was cut off."""
    try:
        task = json.loads(line)
        number = task["id"]
        data = task["data"].encode() if "data" in task else base64.b64decode(task["base64"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (number, data) if isinstance(number, int) else None


def said(number: int, word: str, data: bytes) -> bytes:
    """A line that gives something: text as it is, other bytes in base64."""
    answer: dict[str, Any] = {"id": number}
    try:
        answer[word] = data.decode()
    except UnicodeDecodeError:
        answer["base64" if word == "data" else "partBase64"] = base64.b64encode(data).decode()
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"


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
        self._out = os.fdopen(take_stdout(), "wb", buffering=0)
        self._sending = threading.Lock()

    def read(self) -> Optional[tuple[int, bytes]]:
        for line in sys.stdin.buffer:
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
