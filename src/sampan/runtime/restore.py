"""The verb `restore`: a container again from the images of `checkpoint`, its processes revived by CRIU.

CRIU makes the first process our child (rst_sibling), so that it is waited for like one of `run`. It is a member of the
container's cgroups before it is asked to do anything, so that what it forks is one too.
Source: runc restore(8), criu.org/RPC.
"""

from __future__ import annotations

import os

from sampan.errors import DataLoss, Error, NotFound, Unimplemented
from sampan.linux import abi, cgroupfs, process, procfs
from sampan.runtime import cgroup, create, delete, document, hooks, state
from sampan.runtime.checkpoint import DESCRIPTORS, LEAST_CRIU, directories, external_key
from sampan.runtime.criu import messages, mounts, wishes, worker
from sampan.runtime.host import host_facts
from sampan.runtime.plan import rootfs_path
from sampan.runtime.steps.joining import loopback_up
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Namespace, Spec
    from sampan.runtime.cgroup.unit import UnitPlan
    from sampan.runtime.console import Terminal
    from sampan.runtime.criu.wishes import Wishes
    from sampan.runtime.host import HostFacts

_LOG = "restore.log"
_LOG_LEVEL = 4
_ROOT = "criu-root"
_INHERITED = ("network", "pid")
_NAMES = {"ipc": "ipc", "uts": "uts", "user": "user", "mount": "mnt", "time": "time"}
"""What CRIU calls the namespaces that it joins."""


class Restored:
    """A container that has been restored. `state` is what `state.save` writes; `pid` and `pidfd` are the caller's.

    `master` is the terminal's master, -1 when there is none. It has the parts of a Launch that `attend` waits with.
    """

    __slots__ = ("channel", "hooks", "master", "pid", "pidfd", "state")

    def __init__(self) -> None:
        self.channel = -1
        self.hooks: dict[str, Any] = {}
        self.master = -1
        self.pid = 0
        self.pidfd = -1
        self.state: dict[str, Any] = {}

    def proceed(self) -> None:
        """It runs already."""

    def step(self) -> None:
        """There is nobody that it could hear from."""

    def discard(self) -> None:
        if self.pidfd >= 0:
            try:
                process.pidfd_send_signal(self.pidfd, abi.SIGKILL)
            except ProcessLookupError:
                pass


def restore(
    container_id: str,
    bundle: str,
    root: str,
    wanted: Wishes,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    rootfs_mounts: list[dict[str, Any]] | None = None,
    systemd: bool = False,
) -> Restored:
    """Make the container that the images of `wanted` hold, in the bundle's rootfs, with `stdio` for pipes it had there.

    `rootfs_mounts` are mounted first, as in `launch`; with `systemd` it makes the cgroups. The state is saved. The
    caller has no threads. Errors: sampan.errors, OSError; nothing is left then.
    """
    state.check_id(container_id)
    spec = create.load_spec(bundle)
    if not rootfs_mounts:
        create.check_rootfs(spec, bundle)
    host = host_facts()
    path = spec.get("linux", {}).get("cgroupsPath", "")
    unit = _unit(spec, container_id, host) if systemd else None
    paths = unit.paths if unit else cgroup.paths(host, path, container_id)
    settings = unit.settings if unit else {"path": path}
    folder = state.reserve(root, container_id)
    restoring = _Restoring(container_id, root, spec, bundle, paths, settings, wanted)
    try:
        wishes.check_release(wanted, LEAST_CRIU)
        unit.start() if unit else cgroup.create(paths)
        try:
            restoring.perform(folder, host, stdio, rootfs_mounts)
        except BaseException:
            restoring.made.discard()
            cgroup.kill_left(paths)
            cgroup.remove(paths, unit.settings if unit else None)
            raise
        finally:
            if unit:
                unit.settle()
    except BaseException:
        state.remove(root, container_id)
        raise
    return restoring.made


def _unit(spec: Spec, container_id: str, host: HostFacts) -> UnitPlan:
    from sampan.runtime.cgroup.unit import UnitPlan

    return UnitPlan(spec, container_id, host)


class _Restoring:
    """One restore under way: what CRIU's notices need, and what is to be undone."""

    __slots__ = ("_bundle", "_held", "_id", "_paths", "_root", "_rootfs", "_settings", "_spec", "_wanted", "made")

    def __init__(
        self,
        container_id: str,
        root: str,
        spec: Spec,
        bundle: str,
        paths: dict[str, str],
        settings: dict[str, Any],
        wanted: Wishes,
    ) -> None:
        self._id = container_id
        self._root = root
        self._settings = settings
        self._spec = spec
        self._bundle = bundle
        self._rootfs = rootfs_path(spec, bundle)
        self._paths = paths
        self._wanted = wanted
        self._held: list[int] = []
        self.made = Restored()

    def perform(
        self,
        folder: str,
        host: HostFacts,
        stdio: tuple[int, int, int],
        rootfs_mounts: list[dict[str, Any]] | None,
    ) -> None:
        """All of it. Errors: sampan.errors, OSError; the processes have ended then."""
        linux = self._spec.get("linux", {})
        place = f"{folder}/{_ROOT}"
        os.mkdir(place, 0o755)
        try:
            extra: list[int] = []
            options = self._options(place, host, extra)
            self._held += extra

            def prepare() -> None:
                mounts.prepare(self._spec, self._bundle, self._rootfs, place, rootfs_mounts)

            criu = worker.Worker(worker.find(self._wanted.program), prepare, stdio, extra)
            try:
                # CRIU mounts on these directories, and can on none that it has not in its own mount namespace.
                options.update(directories(self._wanted, self._held, criu.pid))
                options["cg_root"] = self._join(criu.pid)
                if linux.get("resources"):
                    cgroup.apply(self._paths, linux["resources"], settings=self._settings)
            except BaseException:
                criu.reap()
                raise
            request = {"type": messages.RESTORE, "opts": options}
            worker.converse(criu, request, self._notice, self._wanted.log(_LOG))
            if not self.made.pid:
                raise Error("criu has restored no process")
        finally:
            os.rmdir(place)
            for fd in self._held:
                os.close(fd)

    def _remember(self, pid: int) -> None:
        """Take hold of what is restored and save its state, before it is let run: it may end at once."""
        self.made.pidfd = process.pidfd_open(pid)
        self.made.pid = pid
        kinds = [one["type"] for one in self._namespaces()]
        if "time" not in kinds and procfs.namespace_inode(pid, "time") != procfs.namespace_inode("self", "time"):
            # CRIU revives into a time namespace, so that clocks go on from where they were; an exec is to share it.
            self._spec.setdefault("linux", {}).setdefault("namespaces", []).append({"type": "time"})
        self.made.state = state.new(self._id, self._spec, self._bundle, self._rootfs, self._paths, pid,
                                    procfs.start_time(pid), self._settings)  # fmt: skip
        self.made.state["external_descriptors"] = _saved_streams(self._wanted.images)
        state.save(self._root, self.made.state)

    def _join(self, pid: int) -> list[dict[str, str]]:
        """Move CRIU into the container's cgroups: what it is to take for the roots of those it has saved."""
        for directory in dict.fromkeys(self._paths.values()):
            fd = cgroupfs.open_cgroup(directory)
            try:
                cgroupfs.add_process(fd, pid)
            finally:
                os.close(fd)
        return [{"ctrl": key, "path": path} for key, path in cgroupfs.paths(pid).items()]

    def _options(self, place: str, host: HostFacts, extra: list[int]) -> dict[str, Any]:
        """CRIU's options; `extra` takes the descriptors that it is to inherit, in their order."""
        options: dict[str, Any] = {
            **self._wanted.options,
            "root": place,
            "log_level": _LOG_LEVEL,
            "log_file": _LOG,
            "evasive_devices": True,
            "manage_cgroups": True,
            "notify_scripts": True,
            "orphan_pts_master": True,
            "rst_sibling": True,
            "config_file": wishes.configuration_file(self._spec),
            "inherit_fd": _streams(self._wanted.images),
            "join_ns": [],
        }
        for one in self._namespaces():
            kind, path = one["type"], one.get("path", "")
            if not path:
                continue
            if kind in _INHERITED:
                options["inherit_fd"].append({"key": external_key(kind), "fd": worker.FIRST_EXTRA + len(extra)})
                extra.append(_open_namespace(kind, path))
            elif kind in _NAMES:
                options["join_ns"].append({"ns": _NAMES[kind], "ns_file": path})
            else:
                raise Unimplemented(f"Do not know how to handle namespace {state.RUNC_NAMES[kind]}")
        root = os.open(self._rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._held.append(root)
        options["ext_mnt"] = mounts.offered(self._spec, host, self._bundle, root, self._paths)
        return options

    def _namespaces(self) -> list[Namespace]:
        return self._spec.get("linux", {}).get("namespaces", [])

    def _notice(self, script: str, pid: int, fds: list[int]) -> None:
        if script == "orphan-pts-master" and fds and self.made.master < 0:
            self.made.master = fds.pop(0)
        for fd in fds:
            os.close(fd)
        if script == "setup-namespaces":
            self._run_hooks(pid)
            if any(one["type"] == "network" and not one.get("path") for one in self._namespaces()):
                _raise_loopback(pid)
        elif script == "post-restore":
            self._remember(pid)
        elif script == "status-ready" and self._wanted.status_fd >= 0:
            os.write(self._wanted.status_fd, b"\0")

    def _run_hooks(self, pid: int) -> None:
        """Those of the host at a creation, now that the namespaces are there: it is they who set a network up."""
        wanted = self._spec.get("hooks", {})
        made = {"id": self._id, "bundle": self._bundle, "spec": self._spec, "init_process_pid": pid,
                "config": {"version": self._spec.get("ociVersion", "")}}  # fmt: skip
        text = document.text_of(state.oci_state(made, "creating"))
        for name in ("prestart", "createRuntime"):
            for index, hook in enumerate(wanted.get(name, [])):
                try:
                    hooks.run(hook, name, index, text, {})
                except StepFailed as failure:
                    raise Error(str(failure)) from None


def _saved_streams(images: str) -> list[str]:
    """What the standard streams were when they were saved. Errors: NotFound, DataLoss."""
    path = f"{images}/{DESCRIPTORS}"
    try:
        found = document.load(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"open {path}: {words(error)}") from None
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DataLoss(f"{path}: not a list of descriptors")
    return found


def _streams(images: str) -> list[dict[str, Any]]:
    """Pipes of the saved process's standard streams, each with ours that takes its place."""
    return [{"key": one, "fd": place} for place, one in enumerate(_saved_streams(images)) if one.startswith("pipe:")]


def _open_namespace(kind: str, path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise NotFound(f"Requested {kind} namespace {path} does not exist") from None


def _raise_loopback(pid: int) -> None:
    """A network namespace is restored empty, and `create` makes none without `lo`: what listens there goes on."""
    child = os.fork()
    if child == 0:
        # safe because there are no threads, and the child joins a namespace, makes one ioctl and ends.
        try:
            process.setns(procfs.open_namespace(pid, "network"), abi.CLONE_NEWNET)
            loopback_up(None)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def run(
    container_id: str,
    bundle: str,
    root: str,
    wanted: Wishes,
    *,
    detach: bool = False,
    console_socket: str = "",
    pid_file: str = "",
    systemd: bool = False,
) -> int:
    """The verb: restore, and wait for the end unless `detach`; the exit code. `bundle`, `pid_file` are absolute."""
    state.check_id(container_id)
    spec = create.load_spec(bundle)
    create.check_terminal(bool(spec.get("process", {}).get("terminal")), detach, console_socket)
    made = restore(container_id, bundle, root, wanted, systemd=systemd)
    terminal: Terminal | None = None
    try:
        if made.master >= 0:
            from sampan.runtime import console

            if console_socket:
                console.send_master(console_socket, "/dev/ptmx", made.master)
            else:
                terminal = console.Terminal(made.master)
        if pid_file:
            create.write_pid_file(pid_file, made.pid)
        if detach:
            return 0
        from sampan.runtime import attend

        code = attend.until_exit(made, terminal)
        delete.clean_up(root, made.state)
        return code
    except BaseException:
        if terminal:
            terminal.close()
        made.discard()
        os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
        delete.clean_up(root, made.state)
        raise
