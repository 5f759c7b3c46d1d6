"""The verb `delete`: what containerd calls when a shim has died. It ends and removes what that left behind."""

from __future__ import annotations

import errno
import os
import sys
import time

from sampan.keeper.forker import Forker
from sampan.keeper.loop import Loop
from sampan.keeper.reaper import LOST, Reaper
from sampan.linux import abi, mount, process
from sampan.shim import records
from sampan.shim.messages import DELETED, timestamp
from sampan.shim.serve import clear, drivers
from sampan.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.keeper.native import Runtime


class _Holder:
    forker: Forker


def run(container_id: str, bundle: str, runtime: Runtime) -> bytes:
    """End the container's processes, have its runtime forget it, unmount; the DeleteResponse. Errors go to stderr."""
    process.set_child_subreaper(True)
    ended = {"pid": _init_pid(bundle), "status": LOST, "at": time.time_ns()}
    record = records.read(bundle, container_id)
    if record is not None:
        ended = _bury(container_id, bundle, record, runtime) or ended
    _unmount(f"{bundle}/rootfs")
    return protobuf.encode(
        DELETED, {"pid": ended["pid"], "exit_status": ended["status"], "exited_at": timestamp(ended["at"])}
    )


def _bury(container_id: str, bundle: str, record: dict[str, Any], runtime: Runtime) -> dict[str, Any] | None:
    loop, holder = Loop(), _Holder()
    reaper = Reaper(loop)
    scratch = f"{bundle}/sampan.d"
    holder.forker = Forker(
        loop,
        records.BundleRecords({container_id: record}),
        drivers(loop, reaper, runtime, scratch, holder),
        lambda event: True,
    )
    holder.forker.bury()
    task = holder.forker.task(container_id)

    def deleted(error: Exception | None, result: dict[str, Any]) -> None:
        if error is not None:
            print(f"shim: delete {container_id}: {error}", file=sys.stderr)
        loop.stop()

    holder.forker.delete(task, deleted)
    loop.run()
    clear(scratch)
    return task.exit


def _init_pid(bundle: str) -> int:
    try:
        with open(f"{bundle}/init.pid", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _unmount(rootfs: str) -> None:
    try:
        while True:  # as often as something is mounted there
            mount.umount2(rootfs, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            print(f"shim: umount {rootfs}: {os.strerror(error.errno or 0)}", file=sys.stderr)
