"""A shim's live values: containers and the processes in them, as containerd's requests name them."""

from __future__ import annotations

from sampan.shim.messages import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.keeper.uris import InputFifo
    from sampan.shim.server import Call

UNKNOWN_STATUS = 255
"""Of a process that never ran: what containerd's own shim has for one without an exit."""


class Child:
    """A container's own process (`exec_id` "") or an exec. `request` is the Create or Exec that named its streams."""

    def __init__(self, exec_id: str, request: dict[str, Any]) -> None:
        self.exec_id = exec_id
        self.stdio: dict[str, Any] = {key: request[key] for key in ("stdin", "stdout", "stderr", "terminal")}
        self.spec = b""
        self.pid = 0
        self.status = "created"
        self.starting = False
        self.exit: dict[str, Any] | None = None
        """The keeper's exit object. It may come before the start is answered; clients are told in the other order."""
        self.waits: list[Call] = []
        self.input: InputFifo | None = None

    def ended(self) -> dict[str, Any]:
        """pid, exit_status and exited_at, as several messages have them."""
        if self.exit is None:
            return {"pid": self.pid, "exit_status": UNKNOWN_STATUS, "exited_at": timestamp(0)}
        return {"pid": self.pid, "exit_status": self.exit["status"], "exited_at": timestamp(self.exit["at"])}

    def close(self) -> None:
        if self.input is not None:
            self.input.close()
            self.input = None


class Container:
    """One of those that this shim serves."""

    def __init__(self, container_id: str, bundle: str, init: Child) -> None:
        self.id = container_id
        self.bundle = bundle
        self.init = init
        self.execs: dict[str, Child] = {}

    def note_pid(self) -> None:
        """Where the shim's `delete` finds it."""
        with open(f"{self.bundle}/init.pid", "w", encoding="ascii") as file:
            file.write(str(self.init.pid))
