"""A place to try `services.Tasks` in: directories, a bundle maker, and the exits heard. One per runtime under test."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from sampan.containerd.services import LogTarget, Mount, TaskExit, TaskIO
from sampan.containerd.tasks import KeeperTasks

FAKE_KEEPER = [sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "unit/keeper/fake_runtime.py")]
NAMESPACES = ("pid", "ipc", "uts", "mount", "network", "cgroup")
PATIENCE = 15.0
"""Seconds after which something that should have happened has not."""


class Bench:
    """`runtime`: "fake" (no namespaces, no root), "sampan" (ours), or the path of another OCI runtime."""

    def __init__(self, directory: Path, runtime: str, **options: Any) -> None:
        self.directory = directory
        self.runtime = runtime
        self.state = str(directory / "state")
        self.tasks: KeeperTasks
        self._options = options
        self._heard: asyncio.Queue[TaskExit]
        self._early: list[TaskExit] = []
        self.oom: asyncio.Queue[str]

    async def __aenter__(self) -> Bench:
        self.tasks = self.client()
        await self.tasks.open()
        return self

    def client(self) -> KeeperTasks:
        """A new sampand's view of the same state."""
        os.makedirs(self.state, exist_ok=True)
        command = FAKE_KEEPER if self.runtime == "fake" else None
        tasks = KeeperTasks(self.state, command=command, **self._options)
        self._heard = asyncio.Queue()
        self.oom = asyncio.Queue()
        self._early = []
        tasks.on_exit(self._heard.put_nowait)
        tasks.on_oom(self.oom.put_nowait)
        return tasks

    async def __aexit__(self, *exc_info: object) -> None:
        for state in await self.tasks.list():
            if state.status != "stopped" and state.status != "created":
                await self.tasks.kill(state.container_id, 9, all=True)
                await self.exit_of(state.container_id)
            await self.tasks.delete(state.container_id)
        await self.tasks.close()
        for tree in os.listdir("/sys/fs/cgroup"):
            try:
                os.rmdir(f"/sys/fs/cgroup/{tree}/sampan-bench-{os.getpid()}")
            except OSError:
                pass  # never made, or not a tree of cgroups

    def keeper_pid(self, number: int = 0) -> int:
        """The pid file's content."""
        return int(Path(self.state, "keeper", str(number), "pid").read_text())

    def process(self, script: str, **fields: Any) -> dict[str, Any]:
        """A runtime-spec process that runs a shell script."""
        capabilities = ["CAP_KILL", "CAP_SYS_ADMIN"]
        return {
            "args": ["sh", "-c", script],
            "cwd": "/",
            "env": ["PATH=/bin:/usr/bin"],
            "user": {"uid": os.getuid(), "gid": os.getgid()},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            **fields,
        }

    def bundle(self, container_id: str, script: str, spec: dict[str, Any] | None = None, **fields: Any) -> str:
        """A directory with config.json; `fields` go to the process, `spec` over the whole."""
        bundle = self.directory / "bundles" / container_id
        (bundle / "rootfs").mkdir(parents=True, exist_ok=True)
        config = {
            "ociVersion": "1.0.2",
            "process": {"terminal": False, **self.process(script, **fields)},
            "root": {"path": "rootfs"},
            "hostname": "bench",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
                },
                {
                    "destination": "/dev/pts",
                    "type": "devpts",
                    "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
                },
            ],
            "linux": {
                "namespaces": [{"type": name} for name in NAMESPACES],
                "cgroupsPath": f"/sampan-bench-{os.getpid()}/{container_id}",
            },
            **(spec or {}),
        }
        (bundle / "config.json").write_text(json.dumps(config))
        return str(bundle)

    def rootfs(self, container_id: str) -> list[Mount]:
        """An overlay over a busybox tree; nothing for the fake, which runs on the host's files."""
        if self.runtime == "fake":
            return []
        lower = self.directory / "lower"
        if not lower.exists():
            for name in ("bin", "proc", "dev", "sys", "etc", "tmp", "root"):
                (lower / name).mkdir(parents=True, exist_ok=True)
            busybox = shutil.which("busybox")
            assert busybox
            shutil.copy(busybox, lower / "bin/busybox")
            for name in ("sh", "cat", "sleep", "echo", "yes", "head", "id", "stty", "true", "kill", "dd", "tail"):
                (lower / "bin" / name).symlink_to("busybox")
            (lower / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        options = [f"lowerdir={lower}"]
        for name in ("upper", "work"):
            (self.directory / "layers" / container_id / name).mkdir(parents=True, exist_ok=True)
            options.append(f"{name}dir={self.directory / 'layers' / container_id / name}")
        return [Mount("overlay", "overlay", options)]

    def log(self, container_id: str) -> str:
        """The text of a container's log."""
        content = (self.directory / f"{container_id}.log").read_bytes()
        return "".join(json.loads(line)["log"] for line in content.splitlines())

    async def create(
        self,
        container_id: str,
        script: str,
        *,
        terminal: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
        console_size: tuple[int, int] | None = None,
        spec: dict[str, Any] | None = None,
        checkpoint: str = "",
        **fields: Any,
    ) -> int:
        """`Tasks.create` of a shell script, with a log."""
        if terminal:
            fields["terminal"] = True
        return await self.tasks.create(
            container_id,
            bundle=self.bundle(container_id, script, spec, **fields),
            rootfs=self.rootfs(container_id),
            io=TaskIO(
                terminal, stdin, stdin_once, LogTarget(str(self.directory / f"{container_id}.log")), console_size
            ),
            runtime=self.runtime if self.runtime.startswith("/") else "",
            checkpoint=checkpoint,
        )

    async def run(self, container_id: str, script: str, **options: Any) -> int:
        """Create and start."""
        pid = await self.create(container_id, script, **options)
        await self.tasks.start(container_id)
        return pid

    async def exec(self, container_id: str, exec_id: str, script: str, **io: Any) -> int:
        """`Tasks.exec` of a shell script."""
        options = {"terminal": False, "stdin": False, **io}
        process = self.process(script, terminal=options["terminal"])
        return await self.tasks.exec(container_id, exec_id, process=process, io=TaskIO(**options))

    async def attach(self, container_id: str, exec_id: str = "", *, stdin: bool = False, stderr: bool = True) -> Client:
        """`Tasks.attach` with pipes of our own."""
        out, err = os.pipe(), os.pipe()
        fd = await self.tasks.attach(
            container_id, exec_id, stdout=out[1], stderr=err[1] if stderr else None, stdin=stdin
        )
        os.close(out[1])
        os.close(err[1])
        return Client(out[0], err[0], fd)

    async def exit_of(self, container_id: str, exec_id: str = "") -> TaskExit:
        """The exit heard, now or earlier."""
        while True:
            for found in self._early:
                if (found.container_id, found.exec_id) == (container_id, exec_id):
                    self._early.remove(found)
                    return found
            self._early.append(await asyncio.wait_for(self._heard.get(), PATIENCE))

    def unheard(self) -> list[TaskExit]:
        """Exits that came and nobody asked for."""
        while not self._heard.empty():
            self._early.append(self._heard.get_nowait())
        return self._early


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not (an orphan's belongs to the machine's init, which may be slow)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class Client:
    """What an attached client holds."""

    def __init__(self, stdout: int, stderr: int, stdin: int | None) -> None:
        self.stdout, self.stderr, self.stdin = stdout, stderr, stdin

    async def until(self, text: bytes) -> bytes:
        """Standard output up to and with `text`."""
        found = b""
        while text not in found:
            part = await asyncio.wait_for(asyncio.to_thread(os.read, self.stdout, 4096), PATIENCE)
            assert part, f"output ended before {text!r}: {found!r}"
            found += part
        return found

    async def all(self) -> tuple[bytes, bytes]:
        """Both outputs to their end."""
        return await self._rest(self.stdout), await self._rest(self.stderr)

    async def _rest(self, fd: int) -> bytes:
        parts = []
        while part := await asyncio.wait_for(asyncio.to_thread(os.read, fd, 65536), PATIENCE):
            parts.append(part)
        os.close(fd)
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """To the process's input."""
        assert self.stdin is not None
        os.write(self.stdin, data)

    def close_stdin(self) -> None:
        """The client's input has ended."""
        assert self.stdin is not None
        os.close(self.stdin)
        self.stdin = None
