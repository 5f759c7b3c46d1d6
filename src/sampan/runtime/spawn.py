"""A new process that performs a plan: its descriptors, the fork into its namespaces, the first lines of its life."""

from __future__ import annotations

import os

from sampan.errors import Error
from sampan.linux import abi, process, procfs
from sampan.runtime import cgroup, handshake, init
from sampan.runtime.steps.situation import Situation
from sampan.runtime.steps.table import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.linux.packets import PacketSocket
    from sampan.oci.spec import Spec
    from sampan.runtime.plan import Plan
    from sampan.runtime.steps.table import Perform

    Tell = Callable[[str], object]


def spawn(
    plan: Plan,
    paths: dict[str, str],
    stdio: tuple[int, int, int] | None,
    keep_fds: Sequence[int],
    tell: Tell | None,
    prepare: Callable[[Situation, list[int]], None],
    fork: Callable[[Situation, int | None], tuple[int, int]],
) -> tuple[int, int, PacketSocket]:
    """(pid, pidfd, our end of the channel) of a process that performs the plan.

    `prepare` completes its situation and adds to the descriptors that are open for it alone; `fork` makes it, born
    into the v2 cgroup where there is one. Ours of all those descriptors are closed on every way out.
    """
    perform = resolve(plan.steps)
    held: list[int] = []
    ours, theirs = handshake.pair()
    situation = Situation(theirs)
    situation.stdio = stdio
    situation.narrate = tell is not None
    try:
        unified, situation.cgroups = cgroup.open_joins(paths)
        held += situation.cgroups
        if unified is not None:
            held.append(unified)
        prepare(situation, held)
        # Not the v2 cgroup: a directory of the host is nothing for init to hold, clone3 alone needs it.
        keep = [theirs.fileno(), *(fd for fd in held if fd != unified)]
        if situation.fifo >= 0:
            keep.append(situation.fifo)
        pid, pidfd = fork(situation, unified)
        if pid == 0:
            _become(plan, perform, situation, keep, list(keep_fds))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in held:
            os.close(fd)
    return pid, pidfd, ours


def _become(
    plan: Plan, perform: dict[str, Perform], situation: Situation, keep: list[int], keep_fds: list[int]
) -> None:
    """In the child: never returns."""
    try:
        if keep_fds:
            from sampan.runtime import numbering  # before the door closes

            numbering.place(keep_fds, situation, keep)
        init.main(plan.steps, perform, situation, keep)
    finally:
        os._exit(1)


def fork_into(flags: int, unified: int | None, situation: Situation, spec: Spec) -> tuple[int, int]:
    """clone3, with this process's children meanwhile born into the pid and time namespaces to join."""
    if not os.geteuid():
        # Inherited: nobody in a joined namespace may trace init (CVE-2016-9962). Without root we ourselves could not
        # write the id maps of such a process; init then does it when they are written.
        process.set_dumpable(False)
    back: list[tuple[int, int]] = []
    offsets = spec.get("linux", {}).get("timeOffsets")
    new_time = any(n["type"] == "time" and not n.get("path") for n in spec.get("linux", {}).get("namespaces", []))
    try:
        for kind in ("pid", "time"):
            fd = situation.namespaces.pop(kind, -1)
            if fd >= 0:
                back.append((procfs.open_namespace("self", kind), abi.NAMESPACES[kind][0]))
                process.setns(fd, abi.NAMESPACES[kind][0])
        if new_time:
            back.append((procfs.open_namespace("self", "time"), abi.CLONE_NEWTIME))
            process.unshare(abi.CLONE_NEWTIME)
            for clock, offset in (offsets or {}).items():
                line = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
                proc = procfs.open_proc()
                try:
                    procfs.write_file(proc, "self/timens_offsets", line)
                finally:
                    os.close(proc)
        pid, pidfd = process.clone3(flags, unified)
    except OSError as error:
        for fd, flag in back:
            process.setns(fd, flag)
            os.close(fd)
        raise Error(f"unable to start container process: {error.strerror}") from None
    if pid:
        for fd, flag in back:
            process.setns(fd, flag)
            os.close(fd)
    return pid, pidfd
