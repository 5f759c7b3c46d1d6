"""A shim's bundle: the directory that is its working directory and all that the next core knows of it.

    STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/
        config.json        the runtime-spec document
        rootfs/            where the shim mounts the root file system
        work               a link to ROOT/io.containerd.runtime.v2.task/NAMESPACE/ID, the shim's to fill
        log                a FIFO: what the shim has to say
        shim-binary-path   the shim's program, for its `delete` verb
        bootstrap.json     how to talk to it: {"version", "address", "protocol"}
        address            written by shims before 2.0 themselves
        stdio.json         the streams as the client named them (ours)

The same layout as containerd's: shims find their files by these names (containerd, "Runtime v2").
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sampan.containerd.client_tasks import Stdio
from sampan.linux import abi, mount

PLUGIN = "io.containerd.runtime.v2.task"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a shim answers. `version` is 2 or 3: that of the Task service it has."""

    version: int
    address: str
    protocol: str = "ttrpc"


@dataclass(frozen=True, slots=True)
class Bundle:
    namespace: str
    container_id: str
    path: str
    work: str

    def make(self, spec: bytes, binary: str, stdio: Stdio) -> None:
        """All files but those that the shim's start brings. FileExistsError when the bundle is there."""
        os.makedirs(os.path.dirname(self.path), mode=0o711, exist_ok=True)
        os.mkdir(self.path, 0o711)
        try:
            os.mkdir(f"{self.path}/rootfs", 0o711)
            os.makedirs(self.work, mode=0o711, exist_ok=True)
            os.symlink(self.work, f"{self.path}/work")
            os.mkfifo(f"{self.path}/log", 0o700)
            _write(f"{self.path}/config.json", spec)
            _write(f"{self.path}/shim-binary-path", binary.encode())
            _write(f"{self.path}/stdio.json", json.dumps(asdict(stdio)).encode())
        except BaseException:
            self.remove()
            raise

    def save(self, endpoint: Endpoint) -> None:
        _write(f"{self.path}/bootstrap.json", json.dumps(asdict(endpoint)).encode())

    def endpoint(self) -> Endpoint | None:
        """As saved; None for a shim that never came to start."""
        try:
            with open(f"{self.path}/bootstrap.json", encoding="utf-8") as file:
                found = json.load(file)
            return Endpoint(int(found["version"]), str(found["address"]), str(found["protocol"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def binary(self) -> str:
        """The shim's program; "" when it is not on record."""
        try:
            with open(f"{self.path}/shim-binary-path", encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def stdio(self) -> Stdio:
        try:
            with open(f"{self.path}/stdio.json", encoding="utf-8") as file:
                return Stdio(**json.load(file))
        except (OSError, ValueError, TypeError):
            return Stdio()

    def remove(self) -> None:
        """Unmount what a shim may have left and remove everything; what is gone already is no error."""
        try:
            while True:  # as often as something is mounted there
                mount.umount2(f"{self.path}/rootfs", abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        for directory in (self.path, self.work):
            shutil.rmtree(directory, ignore_errors=True)
            try:
                os.rmdir(os.path.dirname(directory))
            except OSError:
                pass  # the namespace has others


class Bundles:
    """Every shim's bundle below `state`, with its work directory below `root`."""

    def __init__(self, state: str, root: str) -> None:
        self._state = f"{state}/{PLUGIN}"
        self._root = f"{root}/{PLUGIN}"

    def of(self, namespace: str, container_id: str) -> Bundle:
        name = f"{namespace}/{container_id}"
        return Bundle(namespace, container_id, f"{self._state}/{name}", f"{self._root}/{name}")

    def walk(self) -> Iterator[Bundle]:
        """Those on disk."""
        for namespace in _names(self._state):
            for container_id in _names(f"{self._state}/{namespace}"):
                yield self.of(namespace, container_id)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def _write(path: str, data: bytes) -> None:
    """Whole or not at all: a core that is killed here must not leave half a file for the next."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)
