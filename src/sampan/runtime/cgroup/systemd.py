"""The systemd driver's plan: a container's unit, its place in the tree, and resources as the unit's properties. Pure.

Model: `settings` is what state.json keeps in config.cgroups, spelled as in runc: "parent" (a slice), "scope_prefix",
"name", "Systemd" true, "Rootless" (the user's own manager has the unit). Of cgroupsPath "machine.slice:libpod:ID" comes
the scope libpod-ID.scope in machine.slice; a name that ends in ".slice" is a slice itself. A property is a pair (name,
D-Bus variant). `unit` has the conversation that makes it so.

Sources: runc docs/systemd.md, systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup import devices, v2, variant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sampan.oci.spec import DeviceRule, Resources, Spec
    from sampan.runtime.cgroup.devices import Rule

    Settings = dict[str, Any]
    Property = tuple[str, tuple[str, Any]]

INFINITY = (1 << 64) - 1
ANNOTATION = "org.systemd.property."
_PERIOD = 100_000
# The systemd that has learned the property.
_SINCE = {"CPUQuotaPeriodUSec": 242, "AllowedCPUs": 244, "AllowedMemoryNodes": 244}


def settings(cgroups_path: str, container_id: str, rootless: bool) -> Settings:
    """Errors: InvalidArgument for a path that is not slice:prefix:name or names no slice."""
    parent, prefix, name = "", "runc", container_id
    if cgroups_path:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise InvalidArgument(
                'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
                f'got "{cgroups_path}" instead'
            )
        parent, prefix, name = parts
    found = {"name": name, "parent": parent, "scope_prefix": prefix, "path": "", "Systemd": True, "Rootless": rootless}
    expand(slice_of(found))
    if "/" in unit_name(found):
        raise InvalidArgument(f"invalid unit name: {unit_name(found)}")
    return found


def unit_name(made: Settings) -> str:
    name: str = made["name"]
    return name if name.endswith(".slice") else f"{made['scope_prefix']}-{name}.scope"


def slice_of(made: Settings) -> str:
    return made["parent"] or ("user.slice" if made["Rootless"] else "system.slice")


def owner(spec: Spec) -> int:
    """The host's id of the container's root when the container is to have its cgroup, else 0: it is given with a
    cgroup namespace of its own and a cgroup mount that can be written. Source: config-linux.md#cgroup-ownership."""
    linux = spec.get("linux", {})
    if not any(one["type"] == "cgroup" and not one.get("path") for one in linux.get("namespaces", [])):
        return 0
    for one in spec.get("mounts", []):
        if one.get("type") in ("cgroup", "cgroup2") and one["destination"].rstrip("/") == "/sys/fs/cgroup":
            if "ro" in one.get("options", []):
                return 0
            for mapping in linux.get("uidMappings", []):
                if mapping["containerID"] == 0:
                    return mapping["hostID"]
    return 0


def expand(name: str) -> str:
    """ "/a.slice/a-b.slice" of "a-b.slice", "/" of "-.slice": where systemd has a slice. Errors: InvalidArgument."""
    inner = name.removesuffix(".slice")
    if inner == name or "/" in name or (inner != "-" and "" in inner.split("-")):
        raise InvalidArgument(f"invalid slice name: {name}")
    if inner == "-":
        return "/"
    parts = inner.split("-")
    return "".join(f"/{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))


def annotated(annotations: Mapping[str, str]) -> list[Property]:
    """The properties that annotations ask for; one in seconds goes in microseconds. Errors: InvalidArgument."""
    found: list[Property] = []
    for key, text in annotations.items():
        name = key.removeprefix(ANNOTATION)
        if name == key:
            continue
        if len(name) < 3:
            raise InvalidArgument(f"annotation {key} name incorrect: too short")
        if not (name.isascii() and name.isalpha()):
            raise InvalidArgument(f"annotation {key} name incorrect: contains non-alphabetic character")
        try:
            value = variant.parse(text)
            if name.endswith("Sec") and name[-4:-3].islower():
                name, value = name[:-3] + "USec", _microseconds(value)
        except InvalidArgument as error:
            raise InvalidArgument(f"annotation {key}={text} value parse error: {error}") from None
        found.append((name, value))
    return found


def _microseconds(value: tuple[str, Any]) -> tuple[str, int]:
    kind, number = value
    if kind not in tuple("ynqiuxtd") or number < 0:
        raise InvalidArgument("not a number")
    return "t", int(number * 1_000_000)


def at_start(made: Settings, pids: Sequence[int], unified: bool, asked: list[Property]) -> list[Property]:
    """What a transient unit is made with. Accounting makes systemd give it a cgroup of every controller.

    So does, on v1, a device list, here of all devices until the container is ready for its own: without one systemd
    may move everything out of the unit's devices cgroup again, which it then thinks unused.
    """
    found: list[Property] = [("Description", ("s", f"libcontainer container {made['name']}"))]
    if unit_name(made).endswith(".slice"):
        found.append(("Wants", ("as", [slice_of(made)])))
    else:
        found += [("Slice", ("s", slice_of(made))), ("Delegate", ("b", True))]
    found.append(("PIDs", ("au", list(pids))))
    for name in ("Memory", "CPU", "IO" if unified else "BlockIO", "Tasks"):
        found.append((f"{name}Accounting", ("b", True)))
    if not unified:
        found.append(("DeviceAllow", ("a(ss)", [("block-*", "rwm"), ("char-*", "rwm")])))
    found.append(("DefaultDependencies", ("b", False)))
    return [*found, *asked]


def of_resources(
    resources: Resources, unified: bool, update: bool, version: int, group_of: Callable[[str, int], str]
) -> list[Property]:
    """The limits, so that systemd does not set others back. `group_of`, of type "c" or "b" and a major number, is
    that driver's name in /proc/devices or "". Errors: InvalidArgument."""
    found: list[Property] = []
    if "devices" in resources and not update:
        found += _devices(resources.get("devices", []), unified, group_of)
    found += _unified(resources) if unified else _legacy(resources)
    return [one for one in found if version >= _SINCE.get(one[0], 0)]


def _devices(given: list[DeviceRule], unified: bool, group_of: Callable[[str, int], str]) -> list[Property]:
    """systemd knows allowed devices only: rules that cannot be said so are the fs driver's alone, which comes last."""
    default, exceptions = _combined(devices.rules(given))
    if default and not exceptions:
        if unified:
            return [("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", []))]
        return []  # as at the start: without a list there were no cgroup of that tree any more
    found: list[Property] = [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", []))]
    entries: list[tuple[str, str]] = []
    for (kind, major, minor), access in sorted(exceptions.items()):
        long = {"b": "block", "c": "char"}[kind]
        if major >= 0 and minor >= 0:
            path = f"/dev/{long}/{major}:{minor}"
        elif minor >= 0:
            continue  # any device of one minor number
        else:
            group = group_of(kind, major) if major >= 0 else "*"
            if not group:
                continue
            path = f"{long}-{group}"
        entries.append((path, "".join(letter for letter in "rwm" if letter in access)))
    if entries and not default:
        found.append(("DeviceAllow", ("a(ss)", entries)))
    return found


def _combined(rules: list[Rule]) -> tuple[bool, dict[tuple[str, int, int], set[str]]]:
    """(whether what is not named is allowed, the accesses that are the other way) after all rules."""
    default = False
    found: dict[tuple[str, int, int], set[str]] = {}
    for allow, kind, major, minor, access in rules:
        if kind == "a" and major < 0 and minor < 0 and set(access) == set("rwm"):
            default = allow
            found.clear()
            continue
        for one in ("b", "c") if kind == "a" else (kind,):
            key = (one, major, minor)
            if allow == default:
                left = found.get(key, set()) - set(access)
                found.pop(key, None)
                if left:
                    found[key] = left
            else:
                found[key] = found.get(key, set()) | set(access)
    return default, found


_NUMBERS = {
    "memory.max": "MemoryMax", "memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
}  # fmt: skip
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unified(resources: Resources) -> list[Property]:
    """The writes of the v2 driver that systemd has words for."""
    found: list[Property] = []
    for name, text, field in v2.writes(resources):
        value = text.strip()
        try:
            if name in _NUMBERS:
                found.append((_NUMBERS[name], ("t", INFINITY if value == "max" else int(value))))
            elif name in _SETS:
                found.append((_SETS[name], ("ay", bits(value))))
            elif name == "cpu.max":
                quota, _, period = value.partition(" ")
                number = int(period or _PERIOD)
                given = "unified" in field or resources.get("cpu", {}).get("period")
                found += _quota(0 if quota == "max" else int(quota), number if given else 0)
        except (ValueError, OverflowError):
            raise InvalidArgument(f'{field}: value conversion error: "{text}"') from None
    return found


def _quota(quota: int, period: int) -> list[Property]:
    found: list[Property] = [("CPUQuotaPeriodUSec", ("t", period))] if period else []
    share = INFINITY
    if quota > 0:
        # systemd keeps whole percents: rounded up, so that the cgroups below may have what the spec says.
        share = -(-(quota * 1_000_000 // (period or _PERIOD)) // 10_000) * 10_000
    return [*found, ("CPUQuotaPerSecUSec", ("t", share))]


def _legacy(resources: Resources) -> list[Property]:
    memory, cpu, limit = resources.get("memory", {}), resources.get("cpu", {}), resources.get("pids", {}).get("limit")
    found: list[Property] = []
    if memory.get("limit"):
        found.append(("MemoryLimit", ("t", memory["limit"] & INFINITY)))
    if cpu.get("shares"):
        found.append(("CPUShares", ("t", cpu["shares"])))
    if cpu.get("quota") or cpu.get("period"):
        found += _quota(cpu.get("quota", 0), cpu.get("period", 0))
    weight = resources.get("blockIO", {}).get("weight")
    if weight:
        found.append(("BlockIOWeight", ("t", weight)))
    if limit:
        found.append(("TasksMax", ("t", limit if limit > 0 else INFINITY)))
    for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(key):
            try:
                found.append((name, ("ay", bits(cpu[key]))))
            except (ValueError, OverflowError):
                raise InvalidArgument(
                    f'linux.resources.cpu.{key}: resources.CPU.{key.capitalize()}="{cpu[key]}" conversion error'
                ) from None
    return found


def bits(text: str) -> bytes:
    """The set "0-2,8" as a mask, least significant byte first: b"\\x07\\x01". Errors: ValueError."""
    mask = 0
    for part in text.replace(" ", "").split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        low = int(first)
        high = int(last) if dash else low
        if not 0 <= low <= high < 1 << 16:
            raise ValueError(text)
        mask |= (1 << high + 1) - (1 << low)
    if not mask:
        raise ValueError(text)
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def device_group(text: str, kind: str, major: int) -> str:
    """The driver's name for a major number in the text of /proc/devices, "" when it has none."""
    section = ""
    for line in text.split("\n"):
        if line.endswith("devices:"):
            section = {"Character": "c", "Block": "b"}.get(line.split()[0], "")
        elif section == kind and line.split()[:1] == [str(major)]:
            return line.split(None, 1)[1]
    return ""
