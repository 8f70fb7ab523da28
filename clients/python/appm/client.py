"""Sends tasks, one at a time on a connection; threads have one each."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Iterator, Optional, Union

from . import frames
from .errors import ConnectionLost, Refused, nobody_at

Data = Union[bytes, bytearray, memoryview, str]


class Line:
    """A connection, with frames."""

    def __init__(self, path: str) -> None:
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.stream.connect(path)
            self.stream.sendall(frames.PREFACE)
        except OSError as error:
            self.stream.close()
            raise nobody_at(path, error) from error
        self.last = 0
        self._reader = frames.Reader()

    def send(self, kind: int, number: int, head: bytes = b"", body: bytes = b"") -> None:
        try:
            if len(body) < 1 << 16:
                self.stream.sendall(frames.frame(kind, number, head, body))
            else:
                # Both at once, so that the server need not look twice; then what did not fit.
                start = frames.frame_of(kind, number, head, len(body))
                sent = self.stream.sendmsg((start, body))
                self.stream.sendall(start[sent:])
                self.stream.sendall(memoryview(body)[max(sent - len(start), 0) :])
        except OSError as error:
            raise ConnectionLost(f"the server is gone: {error}") from error

    def next(self) -> frames.Frame:
        while (read := self._reader.next()) is None:
            try:
                data = self.stream.recv(max(1 << 16, min(self._reader.missing(), 1 << 20)))
            except OSError as error:
                raise ConnectionLost(f"the server is gone: {error}") from error
            if not data:
                raise ConnectionLost("the server has ended the connection")
            self._reader.feed(data)
        return read

    def close(self) -> None:
        self.stream.close()


class Client:
    """Sends tasks to Apps of a server on this machine. May be shared by threads."""

    def __init__(self, socket: Optional[str] = None, namespace: str = "default") -> None:
        self._path = frames.socket_path(socket)
        self._namespace = namespace
        self._idle: list[Line] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def run(self, app: str, data: Data = b"", *, timeout: Optional[float] = None, idempotent: bool = False) -> bytes:
        """Has a process of the App do it, and waits for its result: for so many seconds, or as long as the App says.

        Raises `Refused` where there is none and the server knows why, `ConnectionLost` where nobody does.
        """
        return b"".join(self._told(app, data, timeout, idempotent, False))

    def stream(self, app: str, data: Data = b"", *, timeout: Optional[float] = None, idempotent: bool = False) -> Iterator[bytes]:
        """The same, with the parts of the result as they are made. Closed before its end, the task is given up."""
        return self._told(app, data, timeout, idempotent, True)

    def _told(self, app: str, data: Data, timeout: Optional[float], idempotent: bool, stream: bool) -> Iterator[bytes]:
        head = frames.order(app, self._namespace, timeout, idempotent, stream)
        line = self._line(head, frames.data(data))
        whole = False
        try:
            while True:
                read = line.next()
                if read.number not in (line.last, 0):
                    continue
                whole = read.kind in (frames.RESULT, frames.REFUSED) and read.number != 0
                if read.kind == frames.REFUSED:
                    raise Refused.read(read.head)
                yield read.body
                if whole:
                    return
        finally:
            # With what is not over the task ends, too.
            self._idle.append(line) if whole else line.close()

    def _line(self, head: bytes, body: bytes) -> Line:
        """A connection on which the task is sent."""
        while True:
            try:
                line, kept = self._idle.pop(), True
            except IndexError:
                line, kept = Line(self._path), False
            line.last = line.last % 0xFFFFFFFF + 1
            try:
                if kept and _is_over(line.stream):
                    raise ConnectionLost
                line.send(frames.SEND, line.last, head, body)
                return line
            except ConnectionLost:
                line.close()
                # One that was kept has ended meanwhile: what was not whole was not begun.
                if not kept:
                    raise


def _is_over(stream: socket.socket) -> bool:
    """True of a connection that the server has ended: nothing else is said on one that nobody uses."""
    try:
        stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
