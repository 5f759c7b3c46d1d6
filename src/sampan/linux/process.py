"""Processes and namespaces: clone3, unshare, setns, pidfds, prctl, scheduling. Sources: the man pages (2)."""

from __future__ import annotations

import errno
import os
from _signal import NSIG, SIG_DFL, SIG_IGN, getsignal, signal  # type: ignore[import-not-found]

from sampan.linux import abi
from sampan.linux.call import (
    address,
    after_fork_child,
    after_fork_parent,
    before_fork,
    buffer,
    call,
    call_held,
    cstring,
    failure,
    read_int,
    read_u32,
    read_u64,
    u32,
    u64,
)

_SHARING = abi.CLONE_VM | abi.CLONE_VFORK | abi.CLONE_THREAD | abi.CLONE_SIGHAND | abi.CLONE_SETTLS
_pidfd_word = buffer(4)
_LIBC_SIGNALS = (32, 33)  # SIGCANCEL and SIGSETXID of glibc
_SIGACTION_SIZE = 32  # handler, flags, restorer (not on every machine), mask


def _libc_thread_id() -> int:
    """The address of libc's own record of this thread's id, or 0 when it is not known.

    glibc hands that address to set_tid_address(2), so the kernel knows it; musl hands another one, whose
    content is not our id. A raw clone must write the child's id there, as libc's fork does.
    """
    word = buffer(8)
    try:
        call("prctl", abi.PR_GET_TID_ADDRESS, word)
        at: int = read_u64(word)[0]
        return at if at and read_int(at) == call("gettid") else 0
    except OSError:
        return 0  # a kernel without CONFIG_CHECKPOINT_RESTORE: libc keeps the parent's id, used by no call here


def clone3(flags: int, cgroup_fd: int | None = None, exit_signal: int = abi.SIGCHLD) -> tuple[int, int]:
    """Make a child process in the new namespaces that `flags` (CLONE_NEW*, CLONE_PARENT, ...) ask for.

    Returns (pid, pidfd) in the parent, (0, -1) in the child, where Python's after-fork work has been done.
    `cgroup_fd` is a cgroup v2 directory in which the child starts. CLONE_PIDFD is always added; the pidfd
    is close-on-exec. Errors: OSError; EINVAL also for flags that would share memory with the child. clone3(2).
    """
    if flags & _SHARING:
        raise failure("clone3", errno.EINVAL, None, "flags share memory with the child")
    flags |= abi.CLONE_PIDFD
    if cgroup_fd is not None:
        flags |= abi.CLONE_INTO_CGROUP
    child_tid = _libc_thread_id()
    if child_tid:
        flags |= abi.CLONE_CHILD_SETTID | abi.CLONE_CHILD_CLEARTID
    # safe because the module keeps _pidfd_word alive and no other thread exists to use it meanwhile.
    # struct clone_args, CLONE_ARGS_SIZE_VER2: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size,
    # tls, set_tid, set_tid_size, cgroup.
    args = u64(flags, address(_pidfd_word), child_tid, 0, exit_signal, 0, 0, 0, 0, 0, cgroup_fd or 0)
    # safe because the caller is single-threaded, so no lock of libc or of Python is held by a thread that the
    # child lacks; the address space is copied, so the child goes on on its own copy of this very stack; and
    # the hooks are the ones that os.fork runs around fork(2).
    before_fork()
    pid = call_held("clone3", args, len(args))
    if pid == 0:
        after_fork_child()
        return 0, -1
    after_fork_parent()
    if pid < 0:
        raise failure("clone3", -pid)
    return pid, read_u32(_pidfd_word)[0]


def unshare(flags: int) -> None:
    """Move this process out of the namespaces named by CLONE_NEW* `flags`. unshare(2)."""
    call("unshare", flags)


def setns(fd: int, nstype: int = 0) -> None:
    """Join the namespace of an nsfs `fd`, or those named by `nstype` of the process behind a pidfd. setns(2)."""
    call("setns", fd, nstype)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """A close-on-exec pidfd of process `pid`. Errors: ESRCH when it is gone. pidfd_open(2)."""
    return call("pidfd_open", pid, flags)


def pidfd_send_signal(pidfd: int, sig: int) -> None:
    """Send `sig` to the process behind `pidfd`; ESRCH when it has been reaped or is a zombie's past. (2)."""
    call("pidfd_send_signal", pidfd, sig, None, 0)


def pidfd_getfd(pidfd: int, targetfd: int) -> int:
    """A close-on-exec duplicate of file descriptor `targetfd` of the process behind `pidfd`. pidfd_getfd(2)."""
    return call("pidfd_getfd", pidfd, targetfd, 0)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2) for options whose arguments are all numbers."""
    return call("prctl", option, a, b, c, d)


def set_no_new_privs() -> None:
    """execve no longer grants privileges; cannot be undone. PR_SET_NO_NEW_PRIVS."""
    prctl(abi.PR_SET_NO_NEW_PRIVS, 1)


def set_pdeathsig(sig: int) -> None:
    """Signal sent to this process when the thread that created it ends (0 for none). PR_SET_PDEATHSIG.

    A parent that is already gone sends nothing, and a change of credentials clears it: the caller checks.
    """
    prctl(abi.PR_SET_PDEATHSIG, sig)


def set_dumpable(dumpable: bool) -> None:
    """Whether /proc/self belongs to this process's ids and ptrace may attach. PR_SET_DUMPABLE."""
    prctl(abi.PR_SET_DUMPABLE, int(dumpable))


def set_child_subreaper(reaper: bool) -> None:
    """Whether orphaned descendants become children of this process. PR_SET_CHILD_SUBREAPER."""
    prctl(abi.PR_SET_CHILD_SUBREAPER, int(reaper))


def set_name(name: str) -> None:
    """Set this thread's comm; the kernel keeps the first 15 bytes. PR_SET_NAME."""
    call("prctl", abi.PR_SET_NAME, cstring("prctl", name))


def sethostname(name: str) -> None:
    """Set the UTS namespace's host name, at most 64 bytes. sethostname(2)."""
    data = cstring("sethostname", name)
    call("sethostname", data, len(data))


def setdomainname(name: str) -> None:
    """Set the UTS namespace's NIS domain name, at most 64 bytes. setdomainname(2)."""
    data = cstring("setdomainname", name)
    call("setdomainname", data, len(data))


def prlimit(pid: int, resource: int, soft: int, hard: int) -> None:
    """Set a resource limit (abi.RLIMITS) of `pid` (0 is this process); abi.RLIM_INFINITY is no limit. prlimit(2)."""
    call("prlimit64", pid, resource, u64(soft, hard), None)


def getrlimit(pid: int, resource: int) -> tuple[int, int]:
    """(soft, hard) of a resource limit of `pid`. prlimit(2)."""
    old = buffer(16)
    call("prlimit64", pid, resource, None, old)
    soft, hard = read_u64(old)
    return soft, hard


def personality(persona: int) -> int:
    """Set the execution domain (abi.PER_*) and return the previous one; 0xffffffff only asks. personality(2)."""
    return call("personality", persona)


def sched_setattr(
    pid: int,
    policy: int,
    nice: int = 0,
    priority: int = 0,
    flags: int = 0,
    runtime: int = 0,
    deadline: int = 0,
    period: int = 0,
) -> None:
    """Set scheduling policy and attributes of `pid`; runtime, deadline and period in ns. sched_setattr(2)."""
    attr = u32(48, policy) + u64(flags) + u32(nice & 0xFFFFFFFF, priority) + u64(runtime, deadline, period)
    call("sched_setattr", pid, attr, 0)


def ioprio_set(which: int, who: int, ioclass: int, priority: int) -> None:
    """Set the I/O class (abi.IOPRIO_CLASSES) and priority 0..7 of `who`. ioprio_set(2)."""
    call("ioprio_set", which, who, ioclass << abi.IOPRIO_CLASS_SHIFT | priority)


def set_mempolicy(mode: int, nodes: list[int]) -> None:
    """Set this thread's NUMA policy: mode | flags (abi.MPOL_*) over the node numbers `nodes`. set_mempolicy(2)."""
    if not nodes:
        call("set_mempolicy", mode, None, 0)
        return
    bits = 0
    for node in nodes:
        bits |= 1 << node
    words = max(nodes) // 64 + 1
    # The kernel reads maxnode - 1 bits.
    call("set_mempolicy", mode, bits.to_bytes(words * 8, "little"), words * 64 + 1)


def default_signals() -> None:
    """Take every signal that this process ignores back to its default, for execve passes "ignored" on.

    Python knows what it was started with for all but the two that glibc keeps for itself, and whose handler glibc does
    not let one ask for or set: those are set by the raw call. rt_sigaction(2), signal(7).
    """
    for number in range(1, NSIG):
        if getsignal(number) == SIG_IGN:
            signal(number, SIG_DFL)
    for number in _LIBC_SIGNALS:
        # safe because a struct of zeros is SIG_DFL without flags or mask on both layouts of struct sigaction.
        call("rt_sigaction", number, bytes(_SIGACTION_SIZE), None, 8)


def close_range(first: int, last: int = abi.CLOSE_RANGE_MAX, flags: int = 0) -> None:
    """Close the file descriptors first..last inclusive, or mark them with CLOSE_RANGE_CLOEXEC. close_range(2)."""
    call("close_range", first, last, flags)


def execve(path: str | int, argv: list[str], envp: dict[str, str]) -> None:
    """Replace this process by the program at `path` or behind an open fd; returns only by OSError. execve(2)."""
    os.execve(path, argv, envp)  # noqa: S606 - there is no shell to pass through
