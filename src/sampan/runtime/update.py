"""The verb `update`: new limits for a container's cgroups."""

from __future__ import annotations

from sampan.errors import Conflict, Error, InvalidArgument, NotFound, Unimplemented
from sampan.oci import spec as oci_spec
from sampan.runtime import cgroup, document, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Resources


def merged(old: Any, new: Any) -> Any:
    """`old` with every member of `new` in its place, objects member by member."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    found = dict(old)
    for key, value in new.items():
        found[key] = merged(found[key], value) if key in found else value
    return found


def update(root: str, found: dict[str, Any], resources: Resources) -> None:
    """Set the limits that `resources` names and remember them; device rules cannot be changed.

    `found` is changed too. Errors: InvalidArgument, Conflict, Error when the kernel refuses (the old are set again).
    """
    oci_spec.check(resources, oci_spec.RESOURCES, "linux.resources")
    if state.status(root, found) == "stopped":
        raise Conflict("container not running")
    linux = found["spec"].setdefault("linux", {})
    before: Resources = linux.get("resources", {})
    wanted: Resources = merged(before, {key: value for key, value in resources.items() if key != "devices"})
    memory = resources.get("memory", {})
    if memory.get("limit") and "swap" not in memory and before.get("memory", {}).get("swap", 0) < memory["limit"]:
        # A limit raised over the old memory+swap would be refused; runc, too, then forgets the old one.
        wanted["memory"].pop("swap", None)
    settings = found["config"].get("cgroups")
    try:
        cgroup.apply(found["cgroup_paths"], wanted, update=True, settings=settings)
    except Error:
        try:
            cgroup.apply(found["cgroup_paths"], before, update=True, settings=settings)
        except Error:
            pass  # the first refusal is what the caller must hear of
        raise
    linux["resources"] = wanted
    state.save(root, found)


def resources_from(path: str) -> Resources:
    """The resources object in a file, "-" for standard input; unchecked. Errors: NotFound, DataLoss, OSError."""
    try:
        found: Resources = document.load("/dev/stdin" if path == "-" else path)
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    return {} if found is None else found


_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str, flag: str) -> int:
    """Bytes of "64m", "1GiB", "-1". Errors: InvalidArgument."""
    if text == "-1":
        return -1
    if text.startswith("-"):
        raise InvalidArgument(f"invalid value for {flag}: invalid size: '{text}'")
    number = text.lower().rstrip("abcdefghijklmnopqrstuvwxyz ").strip()
    unit = text.lower()[len(number) :].strip().removesuffix("ib").removesuffix("b")
    try:
        return int(float(number) * _SIZES[unit])
    except (ValueError, KeyError, OverflowError):
        raise InvalidArgument(f"invalid value for {flag}: invalid size: '{text}'") from None


def resources_of(values: dict[str, Any]) -> Resources:
    """The resources that update's flags name. Errors: InvalidArgument."""
    if values.get("l3-cache-schema"):
        raise Unimplemented("Intel RDT/CAT: l3 cache schema is not enabled")
    if values.get("mem-bw-schema"):
        raise Unimplemented("Intel RDT/MBA: memory bandwidth schema is not enabled")
    found: dict[str, Any] = {"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}}
    for flag, group, key in _NUMBERS:
        if values.get(f"{flag}!"):
            found[group][key] = _number(values[flag], flag)
    for flag, key in (("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")):
        if values.get(f"{flag}!"):
            found["memory"][key] = parse_size(values[flag], flag)
    for flag, key in (("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")):
        if values.get(f"{flag}!"):
            found["cpu"][key] = values[flag]
    return {key: value for key, value in found.items() if value}  # type: ignore[return-value]


def _number(value: int | str, flag: str) -> int:
    """A flag's number; the words are those of the Go function that runc parses it by. Errors: InvalidArgument."""
    signed = flag in _SIGNED
    try:
        number = int(value)
        if number >= 0 or signed:
            return number
    except ValueError:
        pass
    parser = "ParseInt" if signed else "ParseUint"
    raise InvalidArgument(f'invalid value for {flag}: strconv.{parser}: parsing "{value}": invalid syntax')


_SIGNED = ("cpu-quota", "cpu-rt-runtime", "cpu-idle", "pids-limit", "blkio-weight")
_NUMBERS = (
    ("blkio-weight", "blockIO", "weight"), ("cpu-period", "cpu", "period"), ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"), ("cpu-share", "cpu", "shares"), ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"), ("cpu-idle", "cpu", "idle"), ("pids-limit", "pids", "limit"),
)  # fmt: skip


_DURATIONS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds of Go's "5s", "100ms", "1m". Errors: InvalidArgument."""
    number = text.rstrip("nsumh")
    try:
        return float(number) * _DURATIONS[text[len(number) :]]
    except (ValueError, KeyError):
        raise InvalidArgument(f'invalid value "{text}" for flag -interval: parse error') from None
