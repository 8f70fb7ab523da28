"""What can go wrong, by who can mend it."""

from __future__ import annotations

import json
from typing import Any, Optional


class Refused(Exception):
    """The server's answer instead of a result: a Kubernetes `Status`."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status.get("message", "refused"))
        self.status = status

    @classmethod
    def read(cls, head: bytes) -> "Refused":
        return cls(json.loads(head or b"{}"))

    @property
    def code(self) -> int:
        """As of HTTP: 403, 404, 503, 504…"""
        return int(self.status.get("code", 500))

    @property
    def causes(self) -> dict[str, str]:
        """Each cause by its reason: `TaskTimedOut`, `InstanceEnded`, `ExitCode`, `Signal`…"""
        causes = self.status.get("details", {}).get("causes", [])
        return {cause.get("reason", ""): cause.get("message", "") for cause in causes}

    @property
    def may_have_begun(self) -> bool:
        """Whether a process may have begun with the work."""
        said = self.causes.get("MayHaveBegun")
        return said == "true" if said else self.code >= 500

    @property
    def retry_after(self) -> Optional[int]:
        """Seconds after which it is worth trying again, if the server says so."""
        seconds = self.status.get("details", {}).get("retryAfterSeconds")
        return int(seconds) if seconds is not None else None


class ConnectionLost(ConnectionError):
    """The server is gone, and nobody knows what became of the task: the work may have been done or not."""


def nobody_at(path: str, error: OSError) -> ConnectionLost:
    """Why a connection was not made, and what can be done about it."""
    if isinstance(error, PermissionError):
        return ConnectionLost(f"this user may not use {path}: the socket is the server's owner's (others have HTTPS, and workers spec.task.mode: Lines)")
    if isinstance(error, FileNotFoundError):
        return ConnectionLost(f"there is no {path}: does the server run, and has it another data directory (APPM_DATA_DIR, or socket=…)?")
    return ConnectionLost(f"no appm server answers at {path}: {error.strerror or error}")


class Superseded(Exception):
    """This process is not, or not any more, one that its App's tasks go to."""
