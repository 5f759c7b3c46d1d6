"""The runtime-spec's documents (1.2, with 1.3's additions): their types, and the check of what comes in.

Model: a spec is plain JSON (dicts, lists, str, int, bool). `validate` looks at every field that the runtime reads,
names the first wrong one by its path ("mounts[3].options[0]") and leaves unknown fields alone, as the spec demands of
readers. A null means "not given", as in Go, and is dropped. Where runc has a text of its own for a mistake, the text
is runc's. Sources: runtime-spec config.md, config-linux.md, schema/; runc libcontainer/configs/validate.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NotRequired, TypedDict

    class User(TypedDict, total=False):
        uid: int
        gid: int
        umask: int
        additionalGids: list[int]

    class Capabilities(TypedDict, total=False):
        bounding: list[str]
        effective: list[str]
        permitted: list[str]
        inheritable: list[str]
        ambient: list[str]

    class Rlimit(TypedDict):
        type: str
        soft: int
        hard: int

    class ConsoleSize(TypedDict):
        height: int
        width: int

    class Scheduler(TypedDict, total=False):
        policy: str
        nice: int
        priority: int
        flags: list[str]
        runtime: int
        deadline: int
        period: int

    IOPriority = TypedDict("IOPriority", {"class": str, "priority": int}, total=False)

    class Process(TypedDict, total=False):
        terminal: bool
        consoleSize: ConsoleSize
        user: User
        args: list[str]
        env: list[str]
        cwd: str
        capabilities: Capabilities
        rlimits: list[Rlimit]
        noNewPrivileges: bool
        apparmorProfile: str
        selinuxLabel: str
        oomScoreAdj: int
        scheduler: Scheduler
        ioPriority: IOPriority
        execCPUAffinity: dict[str, str]

    class Root(TypedDict, total=False):
        path: str
        readonly: bool

    class IDMapping(TypedDict):
        containerID: int
        hostID: int
        size: int

    class Mount(TypedDict, total=False):
        destination: str
        type: str
        source: str
        options: list[str]
        uidMappings: list[IDMapping]
        gidMappings: list[IDMapping]

    class Hook(TypedDict):
        path: str
        args: NotRequired[list[str]]
        env: NotRequired[list[str]]
        timeout: NotRequired[int]

    class Namespace(TypedDict):
        type: str
        path: NotRequired[str]

    class Device(TypedDict, total=False):
        type: str
        path: str
        major: int
        minor: int
        fileMode: int
        uid: int
        gid: int

    class DeviceRule(TypedDict, total=False):
        allow: bool
        type: str
        major: int
        minor: int
        access: str

    class Resources(TypedDict, total=False):
        devices: list[DeviceRule]
        memory: dict[str, Any]
        cpu: dict[str, Any]
        pids: dict[str, Any]
        blockIO: dict[str, Any]
        hugepageLimits: list[dict[str, Any]]
        network: dict[str, Any]
        rdma: dict[str, dict[str, int]]
        unified: dict[str, str]

    class SeccompArg(TypedDict, total=False):
        index: int
        value: int
        valueTwo: int
        op: str

    class SeccompRule(TypedDict, total=False):
        names: list[str]
        action: str
        errnoRet: int
        args: list[SeccompArg]

    class Seccomp(TypedDict, total=False):
        defaultAction: str
        defaultErrnoRet: int
        architectures: list[str]
        flags: list[str]
        listenerPath: str
        listenerMetadata: str
        syscalls: list[SeccompRule]

    class Linux(TypedDict, total=False):
        uidMappings: list[IDMapping]
        gidMappings: list[IDMapping]
        sysctl: dict[str, str]
        resources: Resources
        cgroupsPath: str
        namespaces: list[Namespace]
        devices: list[Device]
        seccomp: Seccomp
        rootfsPropagation: str
        maskedPaths: list[str]
        readonlyPaths: list[str]
        mountLabel: str
        netDevices: dict[str, dict[str, str]]
        personality: dict[str, Any]
        timeOffsets: dict[str, dict[str, int]]
        memoryPolicy: dict[str, Any]

    class Spec(TypedDict, total=False):
        ociVersion: str
        root: Root
        process: Process
        hostname: str
        domainname: str
        mounts: list[Mount]
        hooks: dict[str, list[Hook]]
        annotations: dict[str, str]
        linux: Linux

    Shape = Any


class Integer:
    """The shape of a JSON number without fraction, `low` ≤ n ≤ `high`."""

    __slots__ = ("high", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high


class MapOf:
    """The shape of an object whose keys are free and whose values all have one shape."""

    __slots__ = ("shape",)

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class Needed:
    """The shape of a member that its object must have."""

    __slots__ = ("shape",)

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


class PageSize:
    """The shape of a huge page's size, "2MB": it becomes part of a file's name."""

    __slots__ = ()


_I32 = Integer(-(1 << 31), (1 << 31) - 1)
_U16 = Integer(0, (1 << 16) - 1)
_U32 = Integer(0, (1 << 32) - 1)
_I64 = Integer(-(1 << 63), (1 << 63) - 1)
_U64 = Integer(0, (1 << 64) - 1)
# (uid_t)-1 means "leave it" to every call that takes an id, so it is not an id (CVE-2024-40635).
_ID = Integer(0, (1 << 32) - 2)

_ID_MAPPING = {"containerID": _U32, "hostID": _U32, "size": _U32}
_HOOK = {"path": str, "args": [str], "env": [str], "timeout": _I64}
_WEIGHT_DEVICE = {"major": _I64, "minor": _I64, "weight": _U16, "leafWeight": _U16}
_THROTTLE_DEVICE = {"major": _I64, "minor": _I64, "rate": _U64}

PROCESS: Shape = {
    "terminal": bool,
    "consoleSize": {"height": _U32, "width": _U32},
    "user": {"uid": _ID, "gid": _ID, "umask": _U32, "additionalGids": [_ID]},
    "args": [str],
    "env": [str],
    "cwd": str,
    "capabilities": {
        "bounding": [str], "effective": [str], "permitted": [str], "inheritable": [str], "ambient": [str],
    },
    "rlimits": [{"type": str, "soft": _U64, "hard": _U64}],
    "noNewPrivileges": bool,
    "apparmorProfile": str,
    "selinuxLabel": str,
    "oomScoreAdj": _I32,
    "scheduler": {
        "policy": str, "nice": _I32, "priority": _I32, "flags": [str],
        "runtime": _U64, "deadline": _U64, "period": _U64,
    },
    "ioPriority": {"class": str, "priority": _I32},
    "execCPUAffinity": {"initial": str, "final": str},
}  # fmt: skip

RESOURCES: Shape = {
    "devices": [{"allow": bool, "type": str, "major": _I64, "minor": _I64, "access": str}],
    "memory": {
        "limit": _I64, "reservation": _I64, "swap": _I64, "kernel": _I64, "kernelTCP": _I64, "swappiness": _U64,
        "disableOOMKiller": bool, "useHierarchy": bool, "checkBeforeUpdate": bool,
    },
    "cpu": {
        "shares": _U64, "quota": _I64, "burst": _U64, "period": _U64, "realtimeRuntime": _I64,
        "realtimePeriod": _U64, "cpus": str, "mems": str, "idle": _I64,
    },
    "pids": {"limit": _I64},
    "blockIO": {
        "weight": _U16, "leafWeight": _U16, "weightDevice": [_WEIGHT_DEVICE],
        "throttleReadBpsDevice": [_THROTTLE_DEVICE], "throttleWriteBpsDevice": [_THROTTLE_DEVICE],
        "throttleReadIOPSDevice": [_THROTTLE_DEVICE], "throttleWriteIOPSDevice": [_THROTTLE_DEVICE],
    },
    "hugepageLimits": [{"pageSize": Needed(PageSize()), "limit": Needed(_U64)}],
    "network": {"classID": _U32, "priorities": [{"name": Needed(str), "priority": Needed(_U32)}]},
    "rdma": MapOf({"hcaHandles": _U32, "hcaObjects": _U32}),
    "unified": MapOf(str),
}  # fmt: skip

SECCOMP: Shape = {
    "defaultAction": str,
    "defaultErrnoRet": _U32,
    "architectures": [str],
    "flags": [str],
    "listenerPath": str,
    "listenerMetadata": str,
    "syscalls": [
        {
            "names": [str], "action": str, "errnoRet": _U32,
            "args": [{"index": Integer(0, 5), "value": _U64, "valueTwo": _U64, "op": str}],
        },
    ],
}  # fmt: skip

SPEC: Shape = {
    "ociVersion": str,
    "root": {"path": str, "readonly": bool},
    "process": PROCESS,
    "hostname": str,
    "domainname": str,
    "mounts": [
        {
            "destination": str, "type": str, "source": str, "options": [str],
            "uidMappings": [_ID_MAPPING], "gidMappings": [_ID_MAPPING],
        },
    ],
    "hooks": {
        "prestart": [_HOOK], "createRuntime": [_HOOK], "createContainer": [_HOOK], "startContainer": [_HOOK],
        "poststart": [_HOOK], "poststop": [_HOOK],
    },
    "annotations": MapOf(str),
    "linux": {
        "uidMappings": [_ID_MAPPING],
        "gidMappings": [_ID_MAPPING],
        "sysctl": MapOf(str),
        "resources": RESOURCES,
        "cgroupsPath": str,
        "namespaces": [{"type": str, "path": str}],
        "devices": [
            {"type": str, "path": str, "major": _I64, "minor": _I64, "fileMode": _U32, "uid": _ID, "gid": _ID},
        ],
        "netDevices": MapOf({"name": str}),
        "seccomp": SECCOMP,
        "rootfsPropagation": str,
        "maskedPaths": [str],
        "readonlyPaths": [str],
        "mountLabel": str,
        "intelRdt": {"closID": str, "l3CacheSchema": str, "memBwSchema": str},
        "personality": {"domain": str, "flags": [str]},
        "timeOffsets": MapOf({"secs": _I64, "nanosecs": _U32}),
        "memoryPolicy": {"mode": str, "nodes": str, "flags": [str]},
    },
}  # fmt: skip

_KINDS = {
    str: "a string",
    bool: "true or false",
    dict: "an object",
    list: "an array",
    int: "a number",
    float: "a number",
}


def check(value: object, shape: Shape, path: str) -> None:
    """Compare a JSON value with its shape; null members of objects are removed. Errors: InvalidArgument."""
    if isinstance(shape, dict):
        _expect(value, dict, path)
        assert isinstance(value, dict)
        for name in [name for name, member in value.items() if member is None]:
            del value[name]
        for name, member in value.items():
            inner = shape.get(name)
            if inner is not None:
                check(member, inner.shape if type(inner) is Needed else inner, f"{path}.{name}" if path else name)
        for name, inner in shape.items():
            if type(inner) is Needed and name not in value:
                raise InvalidArgument(f"{path}.{name}: must be given")
    elif isinstance(shape, list):
        _expect(value, list, path)
        assert isinstance(value, list)
        inner = shape[0]
        for index, member in enumerate(value):
            # A profile names four hundred system calls; only a wrong one is worth a path.
            if inner is not str or type(member) is not str or "\0" in member:
                check(member, inner, f"{path}[{index}]")
    elif isinstance(shape, Integer):
        if type(value) is not int:
            raise InvalidArgument(f"{path}: expected an integer, not {_kind(value)}")
        if not shape.low <= value <= shape.high:
            raise InvalidArgument(f"{path}: {value} is out of range {shape.low}..{shape.high}")
    elif isinstance(shape, PageSize):
        _expect(value, str, path)
        number, unit = str(value)[:-2], str(value)[-2:]
        if unit not in ("KB", "MB", "GB") or not (number.isascii() and number.isdecimal()) or number[0] == "0":
            raise InvalidArgument(f'{path}: "{value}" is not the size of a page, as "2MB"')
    elif isinstance(shape, MapOf):
        _expect(value, dict, path)
        assert isinstance(value, dict)
        for name, member in value.items():
            check(member, shape.shape, f'{path}["{name}"]')
    else:
        _expect(value, shape, path)
        if shape is str and "\0" in str(value):
            raise InvalidArgument(f"{path}: must not contain a null byte")


def _expect(value: object, kind: type, path: str) -> None:
    if type(value) is not kind:
        raise InvalidArgument(f"{path or 'config.json'}: expected {_KINDS[kind]}, not {_kind(value)}")


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


NAMESPACE_TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
HOOK_NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def validate(document: object) -> Spec:
    """The document of a config.json as a `Spec`, checked in place. Errors: InvalidArgument."""
    check(document, SPEC, "")
    spec: Spec = document  # type: ignore[assignment]
    if "process" in spec:
        validate_process(spec["process"])
    if not spec.get("root", {}).get("path"):
        raise InvalidArgument("root must be specified" if "root" not in spec else "root.path: must not be empty")
    linux = spec.get("linux", {})
    _namespaces(linux.get("namespaces", []))
    joined = {namespace["type"]: namespace.get("path", "") for namespace in linux.get("namespaces", [])}
    _needs_namespaces(spec, joined)
    for index, mount in enumerate(spec.get("mounts", [])):
        if not mount.get("destination"):
            raise InvalidArgument(f"mounts[{index}].destination: must not be empty")
    for index, device in enumerate(linux.get("devices", [])):
        _device(device, f"linux.devices[{index}]")
    for name, paths in (
        ("maskedPaths", linux.get("maskedPaths", [])),
        ("readonlyPaths", linux.get("readonlyPaths", [])),
    ):
        for index, path in enumerate(paths):
            if not path.startswith("/"):
                raise InvalidArgument(f"linux.{name}[{index}]: must be an absolute path")
    for name, hooks in spec.get("hooks", {}).items():
        for index, hook in enumerate(hooks if name in HOOK_NAMES else ()):
            if not hook.get("path", "").startswith("/"):
                raise InvalidArgument(f"hooks.{name}[{index}].path: must be an absolute path")
            if hook.get("timeout", 1) <= 0:
                raise InvalidArgument(f"hooks.{name}[{index}].timeout: must be greater than zero")
    return spec


def validate_process(process: object) -> Process:
    """A runtime-spec process object, checked in place. Errors: InvalidArgument, in runc's words where it has some."""
    check(process, PROCESS, "process")
    found: Process = process  # type: ignore[assignment]
    if not found.get("cwd"):
        raise InvalidArgument("Cwd property must not be empty")
    if not found["cwd"].startswith("/"):
        raise InvalidArgument("Cwd must be an absolute path")
    if not found.get("args"):
        raise InvalidArgument("args must not be empty")
    for index, limit in enumerate(found.get("rlimits", [])):
        if "type" not in limit:
            raise InvalidArgument(f"process.rlimits[{index}].type: must not be empty")
    return found


def _namespaces(namespaces: list[Namespace]) -> None:
    seen: set[str] = set()
    for index, namespace in enumerate(namespaces):
        kind = namespace.get("type", "")
        if kind not in NAMESPACE_TYPES:
            raise InvalidArgument(f'linux.namespaces[{index}].type: namespace "{kind}" does not exist')
        if kind in seen:
            raise InvalidArgument(f'malformed spec file: duplicated ns {{"{kind}" "{namespace.get("path", "")}"}}')
        seen.add(kind)


def _needs_namespaces(spec: Spec, joined: dict[str, str]) -> None:
    linux = spec.get("linux", {})
    if spec.get("hostname") and "uts" not in joined:
        raise InvalidArgument("unable to set hostname without a private UTS namespace")
    if spec.get("domainname") and "uts" not in joined:
        raise InvalidArgument("unable to set domainname without a private UTS namespace")
    if (linux.get("uidMappings") or linux.get("gidMappings")) and "user" not in joined:
        raise InvalidArgument("user namespace mappings specified, but user namespace isn't enabled in the config")
    if "user" in joined and not joined["user"] and not (linux.get("uidMappings") and linux.get("gidMappings")):
        raise InvalidArgument("user namespaces enabled, but no uid and gid mappings specified")
    for clock, offset in linux.get("timeOffsets", {}).items():
        if clock not in ("boottime", "monotonic"):
            raise InvalidArgument(f'linux.timeOffsets["{clock}"]: is not a clock of a time namespace')
        if offset.get("nanosecs", 0) >= 1_000_000_000:
            raise InvalidArgument(f'linux.timeOffsets["{clock}"].nanosecs: {offset["nanosecs"]} are more than a second')
    if linux.get("timeOffsets") and "time" not in joined:
        raise InvalidArgument("time namespace offsets specified, but time namespace isn't enabled in the config")
    if (linux.get("maskedPaths") or linux.get("readonlyPaths")) and "mount" not in joined:
        raise InvalidArgument("unable to restrict sys entries without a private MNT namespace")
    for key in linux.get("sysctl", {}):
        _sysctl(key, joined)


_IPC_SYSCTLS = {
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced",
}  # fmt: skip


def _sysctl(key: str, joined: dict[str, str]) -> None:
    # A sysctl that no namespace of the container's own holds would change the host.
    dotted = key.replace("/", ".")
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        needed, problem = "ipc", "is not allowed in the hosts ipc namespace"
    elif dotted.startswith("net."):
        needed, problem = "network", "not allowed in host network namespace"
    elif dotted in ("kernel.domainname", "kernel.hostname"):
        if dotted == "kernel.hostname":
            raise InvalidArgument(f'sysctl "{key}" is not allowed as it conflicts with the OCI "hostname" field')
        needed, problem = "uts", "is not in a separate kernel namespace"
    elif dotted.startswith("user.") and "user" in joined:
        return
    else:
        raise InvalidArgument(f'sysctl "{key}" is not in a separate kernel namespace')
    if needed not in joined:
        raise InvalidArgument(f'sysctl "{key}" {problem}')


def _device(device: Device, path: str) -> None:
    kind = device.get("type", "")
    if kind not in ("c", "u", "b", "p"):
        raise InvalidArgument(f'{path}.type: invalid device type "{kind}"')
    if not device.get("path", "").startswith("/"):
        raise InvalidArgument(f"{path}.path: must be an absolute path")
    if kind != "p" and ("major" not in device or "minor" not in device):
        raise InvalidArgument(f'{path}: major and minor must be given for a device of type "{kind}"')
