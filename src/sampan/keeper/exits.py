"""What of each task must survive sampand, and tells a next keeper what a dead one left: `tasks/<id>.json`.

Each file is replaced by rename, so a reader sees the old or the new one; nothing is synced, because no task survives
a power failure and the directory is on tmpfs.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Keeping(Protocol):
        """What the forker asks of records, wherever they are."""

        def save(self, container_id: str, record: dict[str, Any]) -> None: ...
        def remove(self, container_id: str) -> None: ...
        def load(self) -> dict[str, dict[str, Any]]: ...


SUFFIX = ".json"


class Records:
    """The records of one keeper's tasks, in `directory` (made when missing, mode 0700).

    A record is a JSON object: container, bundle, root, runtime, rootfs (mounts), pid, start_time (clock ticks since
    boot; with the pid the identity of init), created (ns), exit (an exit object of the protocol, or null)."""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, 0o700, exist_ok=True)
        self._directory = directory

    def save(self, container_id: str, record: dict[str, Any]) -> None:
        """Write or replace one record. OSError when the file system refuses."""
        path = self._path(container_id)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(record, separators=(",", ":")).encode())
        finally:
            os.close(fd)
        os.rename(path + ".new", path)

    def remove(self, container_id: str) -> None:
        """Forget one; an unknown one is no error."""
        try:
            os.unlink(self._path(container_id))
        except FileNotFoundError:
            pass

    def load(self) -> dict[str, dict[str, Any]]:
        """All records by container id; a file that is none is named on stderr and left out."""
        found: dict[str, dict[str, Any]] = {}
        for name in sorted(os.listdir(self._directory)):
            if not name.endswith(SUFFIX):
                continue
            container_id = name.removesuffix(SUFFIX)
            try:
                with open(self._path(container_id), encoding="utf-8") as file:
                    record = json.load(file)
                if not isinstance(record, dict) or record.get("container") != container_id:
                    raise ValueError("not a task record")
            except (OSError, ValueError) as error:
                print(f"keeper: {name}: {error}", file=sys.stderr, flush=True)
                continue
            found[container_id] = record
        return found

    def _path(self, container_id: str) -> str:
        return f"{self._directory}/{container_id}{SUFFIX}"
