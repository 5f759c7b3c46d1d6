"""What the `delete` verb must know of a shim that died: the keeper's record of a task, in the task's own bundle."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "sampan.json"


class BundleRecords:
    """The keeper's records (`keeper.exits.Records`), one in each bundle. `found` are those that `load` gives."""

    def __init__(self, found: dict[str, dict[str, Any]] | None = None) -> None:
        self._found = found or {}
        self._paths = {container_id: _path(record["bundle"]) for container_id, record in self._found.items()}

    def save(self, container_id: str, record: dict[str, Any]) -> None:
        """Write or replace one. OSError when the file system refuses."""
        path = self._paths[container_id] = _path(record["bundle"])
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(record, file)
        os.rename(f"{path}.new", path)

    def remove(self, container_id: str) -> None:
        """Forget one; an unknown one is no error."""
        path = self._paths.pop(container_id, "")
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # containerd has removed the bundle, or there never was a record

    def load(self) -> dict[str, dict[str, Any]]:
        return dict(self._found)


def read(bundle: str, container_id: str) -> dict[str, Any] | None:
    """The record in a bundle; None when there is none of this container."""
    try:
        with open(_path(bundle), encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("container") == container_id else None


def _path(bundle: str) -> str:
    return f"{bundle}/{NAME}"
