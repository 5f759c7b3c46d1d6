"""The verb `exec`: one more process in a running container."""

from __future__ import annotations

import os

from sampan.errors import Conflict, DataLoss, InvalidArgument, NotFound
from sampan.oci import spec as oci_spec
from sampan.runtime import attend, cgroup, document, state
from sampan.runtime.create import narrator, passed_fds, write_pid_file
from sampan.runtime.host import host_facts
from sampan.runtime.launch import launch_exec
from sampan.runtime.plan import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.oci.spec import Process
    from sampan.runtime.create import Report


def check_status(root: str, found: dict[str, Any], ignore_paused: bool) -> None:
    """Errors: Conflict in runc's words when the container takes no process now."""
    now = state.status(root, found)
    if now == "stopped":
        raise Conflict("cannot exec in a stopped container")
    if now == "paused" and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")


# What a process object that does not speak of it has from the container's own, as in runc.
_INHERITED = ("capabilities", "apparmorProfile", "selinuxLabel", "oomScoreAdj")


def process_from_file(found: dict[str, Any], path: str) -> Process:
    """A process object of a file; its confinement is the container's where it names none. Errors: as `oci.spec`."""
    try:
        process = document.load(path)
        if isinstance(process, dict):
            own = found["spec"]["process"]
            process = {**{name: own[name] for name in _INHERITED if name in own}, **process}
        return oci_spec.validate_process(process)
    except OSError as error:
        raise NotFound(f"open {path}: {os.strerror(error.errno or 0).lower()}") from None
    except DataLoss as error:
        raise InvalidArgument(str(error)) from None


def process_from_flags(found: dict[str, Any], args: list[str], values: dict[str, Any]) -> Process:
    """The container's own process with what the flags change. Errors: InvalidArgument."""
    process: dict[str, Any] = dict(found["spec"]["process"])
    process["args"] = args
    process["terminal"] = bool(values["tty"])
    process.pop("consoleSize", None)
    if values["cwd"]:
        process["cwd"] = values["cwd"]
    process["env"] = [*process.get("env", []), *values["env"]]
    if values["apparmor"]:
        process["apparmorProfile"] = values["apparmor"]
    if values["process-label"]:
        process["selinuxLabel"] = values["process-label"]
    if values.get("no-new-privs!"):
        process["noNewPrivileges"] = values["no-new-privs"]
    if values["cap"]:
        process["capabilities"] = _with_capabilities(process.get("capabilities") or {}, values["cap"])
    user = dict(process.get("user") or {})
    if values["user"]:
        user["uid"], user["gid"] = parse_user(values["user"], user.get("gid", 0))
    if values["additional-gids"]:
        user["additionalGids"] = [
            *user.get("additionalGids", []),
            *(parse_id(text) for text in values["additional-gids"]),
        ]
    process["user"] = user
    return oci_spec.validate_process(process)


def _with_capabilities(sets: dict[str, list[str]], names: list[str]) -> dict[str, list[str]]:
    """runc adds to bounding, effective and permitted, never to inheritable (CVE-2022-29162)."""
    found = {key: list(value) for key, value in sets.items()}
    for name in names:
        for key in ("bounding", "effective", "permitted"):
            found.setdefault(key, []).append(name)
        if found.get("inheritable"):
            # The kernel makes none ambient that is not inheritable too: it stays a wish, in runc as here.
            found.setdefault("ambient", []).append(name)
    return found


def parse_id(text: str) -> int:
    """A user or group number. Errors: InvalidArgument, also for one that the kernel reads as -1 (CVE-2026-30892)."""
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= (1 << 32) - 2:
        raise InvalidArgument(f'parsing "{text}" as a user or group id: invalid syntax')
    return int(text)


def parse_user(text: str, gid: int) -> tuple[int, int]:
    """ "uid" or "uid:gid", numeric."""
    uid_text, colon, gid_text = text.partition(":")
    return parse_id(uid_text), parse_id(gid_text) if colon else gid


def run_exec(
    root: str,
    found: dict[str, Any],
    process: Process,
    *,
    detach: bool = False,
    console_socket: str = "",
    pid_file: str = "",
    preserve_fds: int = 0,
    cgroup_below: Sequence[str] = (),
    pidfd_socket: str = "",
    report: Report,
    verbose: bool = False,
) -> int:
    """Make the process and return its exit code; with `detach` 0 once it runs. Errors: sampan.errors."""
    terminal = bool(process.get("terminal"))
    if terminal and detach and not console_socket:
        raise InvalidArgument("cannot allocate tty if runc will detach without setting console socket")
    if console_socket and not (terminal and detach):
        raise InvalidArgument("cannot use console socket if runc will not detach or allocate tty")
    host = host_facts()
    for warning in warnings.of_process(process, host):
        report("warning", warning)
    launched = launch_exec(
        found, process, host=host, root=root, terminal=terminal, keep_fds=passed_fds(preserve_fds),
        cgroup_paths=_below(found["cgroup_paths"], cgroup_below),
        tell=narrator(report) if verbose else None,
    )  # fmt: skip
    try:
        own_terminal = attend.until_ready(launched, console_socket)
        if pid_file:
            write_pid_file(pid_file, launched.pid)
        if pidfd_socket:
            from sampan.runtime import console

            console.send_descriptor(pidfd_socket, "setns", launched.pidfd)
        if detach:
            launched.proceed()
            return 0
        code = attend.until_exit(launched, own_terminal)
        report("debug", "process exited", pid=launched.pid, status=code)
        return code
    except BaseException:
        launched.discard()
        raise


def _below(paths: dict[str, str], wanted: Sequence[str]) -> dict[str, str] | None:
    """The container's cgroups, or those below them that --cgroup ("PATH" or "CONTROLLER,...:PATH") names."""
    if not wanted:
        return None
    found = dict(paths)
    for one in wanted:
        controllers, colon, path = one.rpartition(":")
        for name in controllers.split(",") if colon else list(paths):
            if name not in paths:
                raise InvalidArgument(f"unknown controller {name} in SubCgroupPaths")
            if ".." in path.split("/"):
                raise InvalidArgument(f"{path} is not a sub cgroup path")
            found[name] = f"{paths[name]}/{path.strip('/')}".rstrip("/")
            if not cgroup.exists({name: found[name]}):
                raise NotFound(f"unable to start container process: error adding pid to cgroups: openat2 "
                               f"{found[name]}/cgroup.procs: no such file or directory")  # fmt: skip
    return found
