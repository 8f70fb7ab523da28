"""A worker that gives parts: `appm task send words 'one two three' --stream`."""

import time

from appm import serve


def one_by_one(data: bytes):
    for word in data.split():
        yield word + b"\n"
        time.sleep(0.5)


serve(one_by_one)
