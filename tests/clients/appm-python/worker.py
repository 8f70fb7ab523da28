"""A worker of every kind: `worker.py sync|threads|loop`."""

import asyncio
import os
import signal
import sys
import time

from appm import serve


def handler(data: bytes):
    text = data.decode(errors="replace")
    print("got", text[:20])
    if text == "fail":
        raise ValueError("not this one")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text.startswith("sleep "):
        time.sleep(float(text.split()[1]))
        return "slept"
    if text == "nothing":
        return None
    if text == "number":
        return 5
    if text == "exit":
        sys.exit("enough")
    return data[::-1]


def parts(data: bytes):
    for word in data.split():
        yield word
        time.sleep(0.05)


def either(data: bytes):
    return parts(data[6:]) if data.startswith(b"parts ") else handler(data)


async def coroutine(data: bytes):
    if data.startswith(b"sleep "):
        await asyncio.sleep(float(data.split()[1]))
        return "slept"
    return handler(data)


if __name__ == "__main__":
    kind = sys.argv[1]
    serve(coroutine if kind == "loop" else either, slots=1 if kind == "sync" else 8)
    print("there is nothing more for me")
