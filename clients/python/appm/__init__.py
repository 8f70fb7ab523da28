"""Do tasks for an App of appm, and send them. The standard library is all that it needs.

    from appm import serve                       from appm import Client

    def handler(data: bytes) -> bytes:           with Client() as client:
        return data.upper()                          print(client.run("upper", b"hello"))

    serve(handler)

`serve` does what the process is sent, by whichever way its App says (`spec.task.mode`); the handler may be a coroutine function, or a
generator that yields the parts of its result. `Client` and `AsyncClient` send over the Unix socket of a server on this machine.
"""

from .aio import AsyncClient
from .client import Client
from .errors import ConnectionLost, Refused, Superseded
from .worker import serve

__all__ = ["AsyncClient", "Client", "ConnectionLost", "Refused", "Superseded", "serve"]
