"""The verbs `create` and `run`: from a bundle to a container that waits, or that runs to its end."""

from __future__ import annotations

import os

from sampan.errors import Error, InvalidArgument, NotFound
from sampan.oci import spec as oci_spec
from sampan.runtime import document, state
from sampan.runtime.host import host_facts
from sampan.runtime.launch import launch
from sampan.runtime.plan import rootfs_path, warnings
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.oci.spec import Spec
    from sampan.runtime.cgroup.unit import UnitPlan
    from sampan.runtime.conversation import Launch
    from sampan.runtime.host import HostFacts
    from sampan.runtime.notify import Notices

    Report = Callable[..., None]
    """As `report.Options.report`: (level, message, further fields by name)."""


def load_spec(bundle: str) -> Spec:
    """The checked spec of a bundle. Errors: NotFound, DataLoss, InvalidArgument."""
    try:
        found = document.load(f"{bundle}/config.json")
    except FileNotFoundError:
        if not os.path.isdir(bundle):
            raise NotFound(f"chdir {bundle}: no such file or directory") from None
        raise NotFound("JSON specification file config.json not found") from None
    except NotADirectoryError:
        raise NotFound(f"chdir {bundle}: not a directory") from None
    return oci_spec.validate(found)


def write_pid_file(path: str, pid: int) -> None:
    """The pid as decimal text; the file appears whole. Errors: Error, OSError."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Error(f"open {temporary}: {words(error)}") from None
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)


def passed_fds(count: int) -> list[int]:
    """The descriptors that --preserve-fds and LISTEN_FDS name. Errors: InvalidArgument for one that is not open."""
    total = count
    # A variable that was only inherited speaks of somebody else's descriptors: LISTEN_PID names whom it is for.
    if os.environ.get("LISTEN_FDS", "").isdigit() and os.environ.get("LISTEN_PID") == str(os.getpid()):
        total += int(os.environ["LISTEN_FDS"])
    for fd in range(3, 3 + total):
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidArgument(f"unable to stat preserved-fd {fd - 3} (of {total}): bad file descriptor") from None
    return list(range(3, 3 + total))


def run(
    container_id: str,
    bundle: str,
    root: str,
    *,
    create_only: bool = False,
    detach: bool = False,
    keep: bool = False,
    console_socket: str = "",
    pid_file: str = "",
    preserve_fds: int = 0,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    pidfd_socket: str = "",
    rootless: bool | None = None,
    systemd: bool = False,
    report: Report,
    verbose: bool = False,
) -> int:
    """Create a container and, unless `create_only`, start it; return its exit code, 0 when it is left to itself.

    `bundle` and `pid_file` are absolute. `report` takes warnings, and with `verbose` each step. Errors: sampan.errors,
    OSError; nothing is left behind then.
    """
    state.check_id(container_id)
    spec = load_spec(bundle)
    os.chdir(bundle)  # as runc: hooks begin here, and a namespace's relative path is one of the bundle's
    check_rootfs(spec, bundle)
    detached = create_only or detach
    terminal = bool(spec.get("process", {}).get("terminal"))
    check_terminal(terminal, detached, console_socket)
    keep_fds = passed_fds(preserve_fds)
    _announce_listeners(spec, keep_fds, preserve_fds)
    host = _host_for(spec, rootless, report)
    unit = _unit_for(spec, container_id, host) if systemd else None
    folder = state.reserve(root, container_id)
    try:
        notices = _offer_notices(spec, folder, create_only)
        fifo = _make_fifo(folder) if create_only else -1
        launched = launch(
            spec, container_id=container_id, bundle=bundle, root=root, host=host, terminal=terminal,
            keep_fds=keep_fds, fifo=fifo, no_pivot=no_pivot, no_new_keyring=no_new_keyring,
            unit=unit, tell=narrator(report) if verbose else None,
        )  # fmt: skip
    except BaseException:
        state.remove(root, container_id)
        raise
    try:
        code = _attend(launched, root, detached, create_only, console_socket, pid_file, pidfd_socket, notices)
    except BaseException:
        launched.discard()
        _clean_up(root, launched, report)
        raise
    if not detached:
        report("debug", "process exited", pid=launched.pid, status=code)
        if not keep:
            _clean_up(root, launched, report)
    return code


def _host_for(spec: Spec, rootless: bool | None, report: Report) -> HostFacts:
    """The host's facts, after what of the spec it makes questionable has been told."""
    host = host_facts()
    if rootless is not None:
        host.rootless = rootless
    for warning in warnings.of_spec(spec, host):
        report("warning", warning)
    return host


def _unit_for(spec: Spec, container_id: str, host: HostFacts) -> UnitPlan:
    from sampan.runtime.cgroup.unit import UnitPlan

    return UnitPlan(spec, container_id, host)


def narrator(report: Report) -> Callable[[str], None]:
    """What `launch` is to tell each step to, for a log."""
    return lambda step: report("debug", step)


def _clean_up(root: str, launched: Launch, report: Report) -> None:
    from sampan.runtime import delete

    for problem in delete.clean_up(root, launched.state):
        report("error", problem)


def _attend(
    launched: Launch,
    root: str,
    detached: bool,
    create_only: bool,
    console_socket: str,
    pid_file: str,
    pidfd_socket: str,
    notices: Notices | None,
) -> int:
    # Only now, while init is at work on the other processor: these cost 2 ms to import.
    from sampan.runtime import attend

    # Written while init gets ready; only then does it get the name that makes it the container's state.
    names = state.write(root, launched.state)
    own_terminal = attend.until_ready(launched, console_socket)
    os.rename(*names)
    if pid_file:
        write_pid_file(pid_file, launched.pid)
    if pidfd_socket:
        from sampan.runtime import console

        console.send_descriptor(pidfd_socket, "standard", launched.pidfd)
    if create_only:
        return 0
    if detached:
        launched.proceed()
        if launched.hooks.get("poststart"):
            attend.until_running(launched)
        if notices:
            notices.wait(launched.pid, launched.pidfd)
        return 0
    return attend.until_exit(launched, own_terminal, notices)


def _offer_notices(spec: Spec, folder: str, create_only: bool) -> Notices | None:
    """Where a supervisor listens (NOTIFY_SOCKET), the container's way to it; `start` listens for what was created."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target:
        return None
    from sampan.runtime import notify

    notify.offer(spec, folder)
    return None if create_only else notify.Notices(folder, target)


def check_rootfs(spec: Spec, bundle: str) -> None:
    """That the rootfs is there, and not behind a symlink. Errors: NotFound, InvalidArgument."""
    path = rootfs_path(spec, bundle)
    try:
        os.stat(path)
    except OSError as error:
        raise NotFound(f"invalid rootfs: stat {path}: {words(error)}") from None
    if os.path.realpath(path) != path:
        raise InvalidArgument("invalid rootfs: not an absolute path, or a symlink")


def check_terminal(terminal: bool, detached: bool, console_socket: str) -> None:
    """That a terminal has somewhere to go. Errors: InvalidArgument in runc's words."""
    if not terminal and console_socket:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    if terminal and detached and not console_socket:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if not detached and console_socket:
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")


def _make_fifo(folder: str) -> int:
    """The pipe at which init waits for `start`, open for both directions so that neither open nor read ends early."""
    before = os.umask(0)
    try:
        os.mkfifo(f"{folder}/{state.FIFO}", 0o622)
    finally:
        os.umask(before)
    return os.open(f"{folder}/{state.FIFO}", os.O_RDWR | os.O_CLOEXEC)


def _announce_listeners(spec: Spec, keep_fds: list[int], preserve_fds: int) -> None:
    listening = len(keep_fds) - preserve_fds
    if listening > 0:
        spec["process"].setdefault("env", []).extend([f"LISTEN_FDS={listening}", "LISTEN_PID=1"])
