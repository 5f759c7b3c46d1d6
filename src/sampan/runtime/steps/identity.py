"""Steps that make the process what the spec says: names, sysctls, privileges, user, environment, program."""

from __future__ import annotations

import errno
import os
import stat
from _signal import (  # type: ignore[import-not-found]
    SIG_SETMASK,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    pthread_sigmask,
    signal,
)

from sampan.linux import abi, capabilities, credentials, paths, process, procfs, seccomp
from sampan.runtime import handshake, passwd
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation


def hostname(init: Situation, name: str) -> None:
    try:
        process.sethostname(name)
    except OSError as error:
        raise StepFailed(f"sethostname: {words(error)}") from None


def domainname(init: Situation, name: str) -> None:
    try:
        process.setdomainname(name)
    except OSError as error:
        raise StepFailed(f"setdomainname: {words(error)}") from None


def open_proc(init: Situation) -> None:
    """A procfs that only we can reach, so that what is mounted over the container's cannot redirect a write."""
    try:
        init.proc = procfs.private_proc()
    except OSError:
        # A user namespace gets no new procfs where the visible one has mounts over it; that one is checked then.
        init.proc = procfs.open_proc()


def sysctl(init: Situation, key: str, value: str) -> None:
    try:
        procfs.write_sysctl(init.proc, key, value)
    except OSError as error:
        path = "/proc/sys/" + key.replace(".", "/")
        done = "write" if str(error.strerror).startswith("write:") else "open"
        raise StepFailed(f"{done} {path}: {words(error)}") from None


def no_new_privileges(init: Situation) -> None:
    process.set_no_new_privs()


def scheduler(
    init: Situation, policy: int, nice: int, priority: int, flags: int, runtime: int, deadline: int, period: int
) -> None:
    try:
        process.sched_setattr(0, policy, nice, priority, flags, runtime, deadline, period)
    except OSError as error:
        raise StepFailed(f"error setting scheduler: {words(error)}") from None


def io_priority(init: Situation, ioclass: int, priority: int) -> None:
    try:
        process.ioprio_set(abi.IOPRIO_WHO_PROCESS, 0, ioclass, priority)
    except OSError as error:
        raise StepFailed(f"failed to set io priority: {words(error)}") from None


def cpu_affinity(init: Situation, cpus: list[int]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise StepFailed(f"error setting CPU affinity: {words(error)}") from None


def rlimit(init: Situation, name: str, soft: int, hard: int) -> None:
    """While we are still root: a parent without CAP_SYS_RESOURCE may not touch the limits of another user's process."""
    try:
        process.prlimit(0, abi.RLIMITS[name], soft, hard)
    except OSError as error:
        raise StepFailed(f"error setting rlimits for ready process: error setting rlimit type {abi.RLIMITS[name]}: "
                         f"{words(error)}") from None  # fmt: skip


def personality(init: Situation, persona: int) -> None:
    process.personality(persona)


def memory_policy(init: Situation, mode: int, nodes: list[int]) -> None:
    try:
        process.set_mempolicy(mode, nodes)
    except OSError as error:
        raise StepFailed(f"failed to set memory policy: {words(error)}") from None


def load_filter(init: Situation, program: bytes, flags: int) -> None:
    try:
        listener = seccomp.load(program, flags)
    except OSError as error:
        raise StepFailed(f"unable to init seccomp: error loading seccomp filter: {words(error)}") from None
    if listener is not None:
        handshake.send(init.channel, handshake.LISTENER, "", (listener,))
        os.close(listener)


def close_descriptors(init: Situation, preserve: int) -> None:
    """Leave nothing of ours open across execve but stdio and what the caller wants passed on (CVE-2024-21626)."""
    process.close_range(3 + preserve, abi.CLOSE_RANGE_MAX, abi.CLOSE_RANGE_CLOEXEC)


def bounding_set(init: Situation, keep: int) -> None:
    try:
        capabilities.bounding_drop(keep)
    except OSError as error:
        raise StepFailed(f"unable to apply bounding set: {words(error)}") from None


def stdio_owner(init: Situation, uid: int) -> None:
    """Give the standard streams to the user, so that /dev/stdout can be opened again by name; /dev/null is not ours."""
    for fd in (0, 1, 2):
        try:
            found = os.fstat(fd)
            if found.st_uid == uid or (stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)):
                continue
            os.fchown(fd, uid, -1)
        except OSError as error:
            # A file system without owners, or one of another user namespace: the streams work all the same.
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS, errno.EBADF):
                raise StepFailed(f"fchown fd {fd}: {words(error)}") from None


def user(init: Situation, uid: int, gid: int, umask: int, groups: list[int], cwd: str) -> None:
    """Become the user, in the working directory; the permitted capabilities stay for the next step."""
    there = _enter(init, cwd, retry=True)
    os.umask(umask)
    try:
        try:
            credentials.set_ids(uid, gid, groups, keep_capabilities=True)
        except PermissionError:
            if groups:
                raise
            # A user namespace made without privileges denies setgroups, and so has no groups to leave either.
            credentials.set_ids(uid, gid, None, keep_capabilities=True)
    except OSError as error:
        raise StepFailed(f"setup user: {words(error)}") from None
    if not there:
        # A directory that only the user may enter, as on a network file system that trusts no root.
        _enter(init, cwd, retry=False)
    try:
        # The kernel answers with "(unreachable)" for a directory outside of the root, as behind a leaked
        # descriptor in /proc/self/fd (CVE-2024-21626); Python's getcwd raises for it.
        os.getcwd()
    except OSError:
        raise StepFailed("current working directory is outside of container mount namespace root -- possible container "
                         "breakout detected") from None  # fmt: skip


def _enter(init: Situation, cwd: str, retry: bool) -> bool:
    """Without magic links: what /proc/self/fd/N names is a descriptor of ours, not of the container."""
    try:
        fd = paths.open_in_root(init.root, cwd, os.O_PATH | os.O_DIRECTORY)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if retry and error.errno in (errno.EACCES, errno.EPERM):
            return False
        raise StepFailed(f'chdir to cwd ("{cwd}") set in config.json failed: {words(error)}') from None
    return True


def make_working_directory(init: Situation, path: str) -> None:
    try:
        os.close(paths.mkdirs_in_root(init.root, path))
    except OSError as error:
        raise StepFailed(f"mkdir {path}: {words(error)}") from None


def set_capabilities(init: Situation, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    try:
        capabilities.capset(effective, permitted, inheritable)
        capabilities.ambient_clear()
    except OSError as error:
        raise StepFailed(f"unable to apply caps: {words(error)}") from None
    # An ambient capability must be permitted and inheritable; runc, too, only warns about others.
    capabilities.ambient_raise(ambient & permitted & inheritable)


def environment(init: Situation, env: dict[str, str], uid: int) -> None:
    init.env = dict(env)
    if not init.env.get("HOME"):
        init.env["HOME"] = passwd.home_of(init.root, uid)


def find_program(init: Situation, name: str) -> None:
    """Find args[0] as the user would, before anyone is told that all is well. The texts are Go's os/exec."""
    if "/" in name:
        problem = _unfit(name)
        if problem:
            raise StepFailed(f'exec: "{name}": {problem}', "InvalidArgument")
        init.path = name
        return
    for directory in init.env.get("PATH", "").split(":"):
        candidate = f"{directory or '.'}/{name}"
        if not _unfit(candidate):
            if not candidate.startswith("/"):
                raise StepFailed(f'exec: "{name}": cannot run executable found relative to current directory',
                                 "InvalidArgument")  # fmt: skip
            init.path = candidate
            return
    raise StepFailed(f'exec: "{name}": executable file not found in $PATH', "InvalidArgument")


def _unfit(path: str) -> str:
    """Why the file cannot be executed, or ""."""
    try:
        found = os.stat(path)
    except OSError as error:
        return f"stat {path}: {words(error)}"
    if stat.S_ISDIR(found.st_mode):
        return "is a directory"
    if not os.access(path, os.X_OK) or not found.st_mode & 0o111:
        return "permission denied"
    return ""


def parent_hooks(init: Situation) -> None:
    handshake.send(init.channel, handshake.HOOKS)
    word, _, _ = handshake.receive(init.channel)
    if word != handshake.HOOKED:
        raise StepFailed(f"unexpected message {word!r} instead of {handshake.HOOKED!r}")


def ready(init: Situation) -> None:
    """All is done but execve: say so and wait until somebody wants it to happen."""
    handshake.send(init.channel, handshake.READY)
    if init.fifo >= 0:
        init.channel.close()
        # The kernel keeps from a process 1 what it has no handler for: without these only SIGKILL would end a container
        # that was merely created.
        for number in (SIGHUP, SIGINT, SIGQUIT, SIGTERM):
            signal(number, _ended)
        # Opened for both directions by the parent, so that it never ends while nobody writes. It stays open until
        # execve closes it, which is how `start` sees that.
        os.read(init.fifo, 1)
        return
    word, _, _ = handshake.receive(init.channel)
    if word != handshake.PROCEED:
        os._exit(1)  # the parent has gone without wanting the process: nobody is left to be told


def _ended(number: int, frame: object) -> None:
    os._exit(128 + number)


def execve(init: Situation, args: list[str]) -> None:
    # Every Python process ignores two, and who started us may have left others.
    process.default_signals()
    pthread_sigmask(SIG_SETMASK, ())
    try:
        process.execve(init.path, args, init.env)
    except OSError as error:
        raise StepFailed(f"exec {init.path}: {words(error)}") from None
