"""The same for asyncio: many tasks at a time on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import sys
import traceback
from types import TracebackType
from typing import Any, AsyncIterator, Optional, Protocol, Union, cast

from . import frames, lines
from .client import Data
from .errors import ConnectionLost, Refused, Superseded, nobody_at
from .worker import AGAIN, Given, Handler, checked, described, greeting, read_task


class _Line:
    """A connection, with frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._kept = reader, writer, frames.Reader()
        writer.write(frames.PREFACE)

    @classmethod
    async def open(cls, path: str) -> "_Line":
        try:
            return cls(*await asyncio.open_unix_connection(path, limit=1 << 20))
        except OSError as error:
            raise nobody_at(path, error) from error

    async def send(self, kind: int, number: int, head: bytes = b"", body: bytes = b"") -> None:
        try:
            self._writer.write(frames.frame(kind, number, head, body))
            await self._writer.drain()
        except OSError as error:
            raise ConnectionLost(f"the server is gone: {error}") from error

    async def next(self) -> frames.Frame:
        while (read := self._kept.next()) is None:
            try:
                data = await self._reader.read(1 << 20)
            except OSError as error:
                raise ConnectionLost(f"the server is gone: {error}") from error
            if not data:
                raise ConnectionLost("the server has ended the connection")
            self._kept.feed(data)
        return read

    def close(self) -> None:
        self._writer.close()


class AsyncClient:
    """Sends tasks to Apps of a server on this machine, all on one connection. Of one event loop."""

    def __init__(self, socket: Optional[str] = None, namespace: str = "default") -> None:
        self._path = frames.socket_path(socket)
        self._namespace = namespace
        self._line: Optional[_Line] = None
        self._opening = asyncio.Lock()
        self._reading: Optional[asyncio.Task[None]] = None
        self._waiting: dict[int, "asyncio.Queue[Union[frames.Frame, ConnectionLost, Refused]]"] = {}
        self._last = 0

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, and what is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def run(self, app: str, data: Data = b"", *, timeout: Optional[float] = None, idempotent: bool = False) -> bytes:
        """As `Client.run`. Cancelled, the task is given up."""
        return b"".join([part async for part in self._told(app, data, timeout, idempotent, False)])

    def stream(self, app: str, data: Data = b"", *, timeout: Optional[float] = None, idempotent: bool = False) -> AsyncIterator[bytes]:
        """As `Client.stream`."""
        return self._told(app, data, timeout, idempotent, True)

    async def _told(self, app: str, data: Data, timeout: Optional[float], idempotent: bool, stream: bool) -> AsyncIterator[bytes]:
        payload = frames.data(data)
        line = await self._open()
        self._last = number = self._last % 0xFFFFFFFF + 1
        told = self._waiting[number] = asyncio.Queue()
        whole = False
        try:
            await line.send(frames.SEND, number, frames.order(app, self._namespace, timeout, idempotent, stream), payload)
            while not whole:
                read = await told.get()
                if not isinstance(read, frames.Frame):
                    whole = True
                    raise read
                whole = read.kind in (frames.RESULT, frames.REFUSED)
                if read.kind == frames.REFUSED:
                    raise Refused.read(read.head)
                yield read.body
        finally:
            del self._waiting[number]
            if not whole:
                # With a server that is gone the task is, too.
                with contextlib.suppress(ConnectionLost):
                    await line.send(frames.CANCEL, number)

    async def _open(self) -> _Line:
        async with self._opening:
            if self._line is None:
                self._line = await _Line.open(self._path)
                self._reading = asyncio.create_task(self._read(self._line))
            return self._line

    async def _read(self, line: _Line) -> None:
        lost: Union[ConnectionLost, Refused] = ConnectionLost("the connection was closed")
        try:
            while True:
                read = await line.next()
                if read.number in self._waiting:
                    self._waiting[read.number].put_nowait(read)
                elif read.number == 0:
                    # Of the connection: whoever waits on it is told why.
                    raise Refused.read(read.head)
        except (ConnectionLost, Refused) as error:
            lost = error
        finally:
            line.close()
            self._line = None
            for told in self._waiting.values():
                told.put_nowait(lost)


async def serve(handler: Handler, *, slots: int = 1) -> None:
    """As `appm.serve`, in the loop that runs."""
    checked(handler, slots)
    if os.environ.get("APPM_TASK_MODE") == "Lines":
        return await _Work(handler, slots).lines()
    failures = 0
    while True:
        work = _Work(handler, slots)
        try:
            return await work.frames()
        except ConnectionLost:
            failures = 0 if work.reached else failures + 1
            await asyncio.sleep(AGAIN[min(failures, len(AGAIN) - 1)])
        except Superseded:
            return None


class _Channel(Protocol):
    """How results go."""

    async def give(self, number: int, result: bytes) -> None: ...

    async def part(self, number: int, part: bytes) -> None: ...

    async def fail(self, number: int, message: str) -> None: ...


class _Frames:
    """Over the server's socket."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    async def give(self, number: int, result: bytes) -> None:
        await self._line.send(frames.GIVE, number, body=result)

    async def part(self, number: int, part: bytes) -> None:
        await self._line.send(frames.PART, number, body=part)

    async def fail(self, number: int, message: str) -> None:
        await self._line.send(frames.FAIL, number, json.dumps({"message": message[:4096]}).encode())


class _Lines:
    """On standard output. Not a pipe of the loop's: it takes what is in one whose both ends are this process's for the other side's farewell."""

    def __init__(self) -> None:
        self._channel, self._sending = lines.Lines(), asyncio.Lock()

    async def give(self, number: int, result: bytes) -> None:
        await self._send(lines.said(number, "data", result))

    async def part(self, number: int, part: bytes) -> None:
        await self._send(lines.said(number, "part", part))

    async def fail(self, number: int, message: str) -> None:
        await self._send(lines.failed(number, message))

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            if len(line) <= lines.AT_ONCE:
                self._channel.send(line)
            else:
                await asyncio.to_thread(self._channel.send, line)


class _Work:
    """The tasks of one connection."""

    def __init__(self, handler: Handler, slots: int) -> None:
        self._handler, self._slots = handler, slots
        self._under_way: dict[int, "asyncio.Task[None]"] = {}
        self._over: set[int] = set()
        self.reached = False

    async def frames(self) -> None:
        path, head = greeting(self._slots)
        line = await _Line.open(path)
        self.reached = True
        try:
            await line.send(frames.WORK, 0, head)
            while True:
                read = await line.next()
                if read.kind == frames.GONE and read.number in self._under_way:
                    # Nobody waits for it any more.
                    self._over.add(read.number)
                    self._under_way[read.number].cancel()
                elif (task := read_task(read)) is not None:
                    self._begin(_Frames(line), *task)
        finally:
            for under_way in self._under_way.values():
                under_way.cancel()
            line.close()

    async def lines(self) -> None:
        reader, channel = asyncio.StreamReader(limit=128 << 20), _Lines()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            if (task := lines.read_line(line)) is not None:
                self._begin(channel, *task)
        await asyncio.gather(*self._under_way.values())

    def _begin(self, channel: _Channel, number: int, data: bytes) -> None:
        task = self._under_way[number] = asyncio.create_task(self._do(channel, number, data))
        task.add_done_callback(lambda _: self._under_way.pop(number, None))

    async def _do(self, channel: _Channel, number: int, data: bytes) -> None:
        try:
            result: Any = self._handler(data)
            if inspect.isasyncgen(result):
                async for part in cast("AsyncIterator[Given]", result):
                    await channel.part(number, frames.data(part))
                result = None
            elif inspect.isawaitable(result):
                result = await result
            result = frames.data(result)
        except ConnectionLost:
            return
        except asyncio.CancelledError:
            if number not in self._over:
                raise
            self._over.discard(number)
            # With that the server knows that there is room for another one.
            await channel.fail(number, "it was given up")
        except Exception as error:
            traceback.print_exc()
            await channel.fail(number, described(error))
        else:
            await channel.give(number, result)
