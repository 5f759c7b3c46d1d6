"""The verb `start`: make the socket, leave a shim serving it, and say where it is.

    containerd                     start                                  the shim
        | start, stdin: parameters   |                                       |
        |--------------------------->|  socket, bind, listen                 |
        |                            |-- spawn, the socket as descriptor 3 ->|  imports
        | where, by whichever protocol                                       |
        |<---------------------------|  ends                                 |
        | connect, Create                                                    |
        |------------------------------------------------------------------->|  serves

The socket listens before anybody is told of it, so containerd's first request waits there while the shim still starts.
Containers whose annotations name one group (a pod's) share a shim: the second `start` finds it and names it again.
Nothing is imported here that an answer does not need.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket
from errno import EADDRINUSE

from sampan import VERSION, errors
from sampan.shim.messages import ANY, BOOTSTRAP, BOOTSTRAP_RESULT, OPTIONS, OPTIONS_TYPE
from sampan.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
"""Annotations that name a group, the first found counts; containerd's runc shim has the same."""
SOCKETS = "/run/containerd/s"
MAX_INPUT = 10 << 20
CGROUPS = "/sys/fs/cgroup"
BIRTH = 5.0
"""Seconds that a nursery has to fork; it takes milliseconds."""


class Parameters:
    """What containerd says, by whichever protocol. `bootstrap`: by the one from 2.3 on, which also wants its answer."""

    def __init__(self, flags: dict[str, Any], stdin: bytes) -> None:
        self.id: str = flags["id"]
        self.namespace: str = flags["namespace"]
        self.address: str = flags["address"] or os.environ.get("GRPC_ADDRESS", "")
        self.events = os.environ.get("TTRPC_ADDRESS", "")
        self.sockets = SOCKETS
        found = _bootstrap(stdin)
        # Options of old are a message with the same numbers: only the names tell them apart, as containerd has it.
        self.bootstrap = (found["instance_id"], found["namespace"]) == (self.id, self.namespace)
        if self.bootstrap:
            self.events = found["containerd_ttrpc_address"] or self.events
            self.sockets = found["socket_dir"] or self.sockets
            given = [one["value"] for one in found["extensions"] if one["value"]]
        else:
            given = [_any(stdin)]
        self.options = next((options for one in given if (options := _options(one)) is not None), {})


def start(flags: dict[str, Any], stdin: bytes) -> bytes:
    """Of the bundle in the working directory: the answer for stdout. Error; OSError."""
    wanted = Parameters(flags, stdin)
    group = _group() or wanted.id
    path = f"{wanted.sockets}/{_digest(wanted.address, wanted.namespace, group)}"
    listener = _listen(path)
    if listener is not None:
        try:
            _leave_shim(wanted, path, listener)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            listener.close()
    with open("address", "w", encoding="utf-8") as file:
        file.write(f"unix://{path}")
    return answer(f"unix://{path}", wanted.bootstrap, os.environ.get("MAX_SHIM_VERSION", ""))


def _leave_shim(wanted: Parameters, path: str, listener: Socket) -> None:
    """Of the nursery, if there is one; one that is to be in a cgroup of its own is no child of another's."""
    cgroup = wanted.options.get("shim_cgroup", "")
    if cgroup:
        pid = _spawn(wanted, path, listener, ["serve"])
        _join_cgroup(cgroup, pid)
        _adjust_oom_score(pid)
        return
    here = (wanted.address, os.readlink("/proc/self/ns/mnt"), __file__, VERSION, sys.version)
    nursery = f"{wanted.sockets}/{_digest('nursery', *here)}"
    if not _born(nursery, wanted, path, listener):
        _adjust_oom_score(_spawn(wanted, path, listener, ["-nursery", nursery, "nurse"]))


def _born(nursery: str, wanted: Parameters, path: str, listener: Socket) -> bool:
    """Have the nursery fork a shim; False when there is none, or it is just ending."""
    asking = Socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        asking.connect(nursery)
        asking.settimeout(BIRTH)
        request = "\0".join((wanted.namespace, path, wanted.events, os.getcwd())).encode()
        asking.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, listener.fileno().to_bytes(4, sys.byteorder))])
        return bool(asking.recv(32))
    except OSError:
        return False
    finally:
        asking.close()


def answer(address: str, bootstrap: bool, most: str) -> bytes:
    """Where the shim is, in the protocol of who asks; `most` is MAX_SHIM_VERSION, which containerd sets from 1.7 on.

    All of containerd 1.7 to 2.2 say 2 there; 1.7 has no Task service of a later version, so 2 is what is answered."""
    if bootstrap:
        return protobuf.encode(BOOTSTRAP_RESULT, {"version": 3, "address": address, "protocol": "ttrpc"})
    if most.isdigit() and int(most) >= 2:
        version = min(int(most), 3)
        return b'{"version":%d,"address":"%s","protocol":"ttrpc"}' % (version, address.encode())
    return address.encode()


def _bootstrap(stdin: bytes) -> dict[str, Any]:
    try:
        return protobuf.decode(BOOTSTRAP, stdin)
    except protobuf.ProtobufError:
        return protobuf.decode(BOOTSTRAP, b"")


def _any(data: bytes) -> dict[str, Any]:
    try:
        return protobuf.decode(ANY, data)
    except protobuf.ProtobufError as error:
        raise errors.InvalidArgument(f"runtime options: {error}") from error


def _options(given: dict[str, Any]) -> dict[str, Any] | None:
    """Our options in an Any, or in an Any inside an Any; None for another message."""
    if given["type_url"].endswith("google.protobuf.Any"):
        given = _any(given["value"])
    if not given["type_url"].endswith(OPTIONS_TYPE):
        return None
    try:
        return protobuf.decode(OPTIONS, given["value"])
    except protobuf.ProtobufError as error:
        raise errors.InvalidArgument(f"runtime options: {error}") from error


def _group() -> str:
    """The group that the bundle's annotations name; "" for none."""
    with open("config.json", "rb") as file:
        text = file.read()
    if not any(name.encode() in text for name in GROUPS):
        return ""
    import json

    annotations = json.loads(text).get("annotations") or {}
    return str(next((annotations[name] for name in GROUPS if annotations.get(name)), ""))


def _digest(*names: str) -> str:
    from _blake2 import blake2b

    return str(blake2b("\0".join(names).encode(), digest_size=16).hexdigest())


def _listen(path: str) -> Socket | None:
    """A listening socket at `path`; None when a shim serves there already."""
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    for _ in range(2):
        made = Socket(AF_UNIX, SOCK_STREAM)
        old = os.umask(0o177)
        try:
            made.bind(path)
            made.listen(128)
            return made
        except OSError as error:
            made.close()
            if error.errno != EADDRINUSE:
                raise
            if _answers(path):
                return None
        finally:
            os.umask(old)
        try:
            os.unlink(path)  # of a shim that died
        except FileNotFoundError:
            pass  # it went away just now
    raise errors.Error(f"create new shim socket: listen unix {path}: bind: address already in use")


def _answers(path: str) -> bool:
    probe = Socket(AF_UNIX, SOCK_STREAM)
    try:
        probe.connect(path)
    except OSError:
        return False
    finally:
        probe.close()
    return True


def _spawn(wanted: Parameters, path: str, listener: Socket, verb: list[str]) -> int:
    """The shim or its nursery, in a session of its own; of our own executable, sealed where the command found it so."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = getattr(sys, "_base_executable", "") or sys.executable
    code = f"import sys; sys.path.insert(0, {here!r}); from sampan.shim.__main__ import main; main(sys.argv[1:])"
    arguments = ["-namespace", wanted.namespace, "-id", wanted.id, "-socket", path, *verb]
    return os.posix_spawn(
        "/proc/self/exe",
        [program, "-I", "-S", "-c", code, *arguments],
        {**os.environ, "TTRPC_ADDRESS": wanted.events},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            # Not a copy onto itself, which would leave it to be closed at execve.
            (os.POSIX_SPAWN_DUP2, listener.fileno(), 9),
            (os.POSIX_SPAWN_DUP2, 9, 3),
            (os.POSIX_SPAWN_CLOSE, 9),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
    )


def _join_cgroup(name: str, pid: int) -> None:
    """Move the shim into the cgroup that containerd's configuration names. Error when there is none of that name."""
    if not name:
        return
    unified = os.path.exists(f"{CGROUPS}/cgroup.controllers")
    hierarchies = [CGROUPS] if unified else [f"{CGROUPS}/{one}" for one in sorted(os.listdir(CGROUPS))]
    joined = False
    for hierarchy in hierarchies:
        try:
            with open(f"{hierarchy}/{name.strip('/')}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
            joined = True
        except FileNotFoundError:
            continue  # it need not be in all of them
    if not joined:
        raise errors.Error(f"failed to load cgroup {name}: cgroup deleted")


def _adjust_oom_score(pid: int) -> None:
    """The kernel shall end a shim before containerd, and a container before its shim."""
    try:
        with open(f"/proc/{os.getppid()}/oom_score_adj", encoding="ascii") as file:
            score = int(file.read())
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(min(score + 1, 1000)))
    except OSError:
        pass  # lowering it needs CAP_SYS_RESOURCE; then the shim keeps what it has
