"""Does the tasks of the App that this process is of."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Awaitable, Callable, Iterator, Optional, Protocol, Union, cast

from . import frames
from .client import Line
from .errors import ConnectionLost, Refused, Superseded
from .lines import Lines

Given = Union[bytes, bytearray, memoryview, str, None]
Handler = Callable[[bytes], Union[Given, Iterator[Given], Awaitable[Given], AsyncIterator[Given]]]

# Seconds between attempts to reach a server that is away: this process outlives it. They grow, so that it costs nothing to wait for long.
AGAIN = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0)
_EXPIRED = 410


def serve(handler: Handler, *, slots: int = 1) -> None:
    """Does tasks until there are none for this process any more: its App is stopped, or another process has its place.

    `slots` tasks at a time (the App's `spec.task.concurrency` bounds them too), in threads, or as coroutines of one loop if the handler is a coroutine
    function or an asynchronous generator. What the handler raises is told to the caller, and printed.
    """
    checked(handler, slots)
    if _is_for_a_loop(handler):
        from .aio import serve as serve_in_loop

        return asyncio.run(serve_in_loop(handler, slots=slots))
    with ThreadPoolExecutor(slots) as threads:
        if os.environ.get("APPM_TASK_MODE") == "Lines":
            lines = Lines()
            return _work(lines, lines.read, handler, slots, threads)
        failures = 0
        while True:
            try:
                channel = Frames(slots)
                failures = 0
                return _work(channel, channel.read, handler, slots, threads)
            except ConnectionLost:
                # What it was at work on nobody waits for: the server that had sent it is gone.
                time.sleep(AGAIN[min(failures, len(AGAIN) - 1)])
                failures += 1
            except Superseded:
                return None


def checked(handler: Handler, slots: int) -> None:
    """Mistakes that would show with the first task only."""
    if not callable(handler):
        raise TypeError(f"serve: the handler is a function of bytes, and not {type(handler).__name__}")
    if slots < 1:
        raise ValueError("serve: slots is how many tasks are worked on at a time, 1 or more")


def _is_for_a_loop(handler: Handler) -> bool:
    """True of coroutine functions and asynchronous generators, and of objects that are called as one."""
    called = getattr(handler, "__call__", None)
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (handler, called))


def _work(channel: "Channel", read: Callable[[], Optional[tuple[int, bytes]]], handler: Handler, slots: int, threads: ThreadPoolExecutor) -> None:
    while (task := read()) is not None:
        if slots == 1:
            _do(channel, handler, *task)
        else:
            threads.submit(_do, channel, handler, *task)


def _do(channel: "Channel", handler: Handler, number: int, data: bytes) -> None:
    try:
        result: Any = handler(data)
        if inspect.isgenerator(result):
            for part in cast("Iterator[Given]", result):
                channel.part(number, frames.data(part))
            result = None
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the handler made a coroutine: give serve the `async def` function itself")
        result = frames.data(result)
    except ConnectionLost:
        return
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and threading.current_thread() is threading.main_thread():
            raise
        traceback.print_exc()
        why: Optional[str] = described(error)
    else:
        why = None
    try:
        if why is None:
            channel.give(number, result)
        else:
            channel.fail(number, why)
    except ConnectionLost:
        # Whoever reads learns it, too.
        pass


def described(error: BaseException) -> str:
    """What the caller is told of it."""
    return f"{type(error).__name__}: {error}".strip(": ")


def greeting(slots: int) -> tuple[str, bytes]:
    """The socket, and the head of `WORK`."""
    try:
        app, key = os.environ["APP_MESH_APPLICATION_NAME"], os.environ["APP_MESH_PROCESS_KEY"]
    except KeyError as missing:
        raise SystemExit(f"serve: this is no process of an App of appm: {missing} is not set") from None
    return frames.socket_path(None), json.dumps({"app": app, "key": key, "slots": slots}).encode()


def read_task(read: frames.Frame) -> Optional[tuple[int, bytes]]:
    """A task, if that is one."""
    if read.kind == frames.TASK:
        return read.number, read.body
    if read.kind == frames.REFUSED and read.number == 0:
        refused = Refused.read(read.head)
        if refused.code == _EXPIRED:
            raise Superseded(str(refused))
        raise ConnectionLost(str(refused))
    if read.kind == frames.REFUSED:
        raise Refused.read(read.head)
    # `GONE`: the caller did not wait, and nobody has to know.
    return None


class Channel(Protocol):
    """How tasks come and results go."""

    def give(self, number: int, result: bytes) -> None: ...

    def part(self, number: int, part: bytes) -> None: ...

    def fail(self, number: int, message: str) -> None: ...


class Frames:
    """Over the server's socket."""

    def __init__(self, slots: int) -> None:
        path, head = greeting(slots)
        self._line = Line(path)
        self._sending = threading.Lock()
        self._send(frames.WORK, 0, head)

    def read(self) -> Optional[tuple[int, bytes]]:
        while True:
            if (task := read_task(self._line.next())) is not None:
                return task

    def give(self, number: int, result: bytes) -> None:
        self._send(frames.GIVE, number, body=result)

    def part(self, number: int, part: bytes) -> None:
        self._send(frames.PART, number, body=part)

    def fail(self, number: int, message: str) -> None:
        self._send(frames.FAIL, number, json.dumps({"message": message[:4096]}).encode())

    def _send(self, kind: int, number: int, head: bytes = b"", body: bytes = b"") -> None:
        with self._sending:
            self._line.send(kind, number, head, body)
