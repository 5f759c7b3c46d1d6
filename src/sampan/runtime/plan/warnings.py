"""What runc warns about and goes on: pure, and apart from the plan because a keeper has nobody to tell it."""

from __future__ import annotations

from sampan.linux import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Process, Spec
    from sampan.runtime.host import HostFacts


KERNEL_MEMORY = "Kernel memory settings are ignored and will be removed"


def kernel_memory(resources: Any) -> bool:
    """Whether limits are asked for that no kernel holds any more. `resources` need not have been checked."""
    memory = resources.get("memory") if isinstance(resources, dict) else None
    return isinstance(memory, dict) and bool(memory.get("kernel") or memory.get("kernelTCP"))


def of_spec(spec: Spec, host: HostFacts) -> list[str]:
    """The warnings that a checked spec deserves, in runc's words."""
    found = [
        f"mount destination {mount['destination']} is not absolute. "
        "Support for non-absolute mount destinations will be removed in a future release."
        for mount in spec.get("mounts", [])
        if not mount["destination"].startswith("/")
    ]
    if kernel_memory(spec.get("linux", {}).get("resources", {})):
        found.append(KERNEL_MEMORY)
    return found + of_process(spec.get("process", {}), host)


def of_process(process: Process, host: HostFacts) -> list[str]:
    """The warnings for a process object: capabilities that this kernel has not or nobody knows."""
    unknown: dict[str, None] = {}
    for names in (process.get("capabilities") or {}).values():
        for name in names:  # type: ignore[attr-defined]
            if not _available(name, host.last_cap):
                unknown[name] = None
    return [f"ignoring unknown or unavailable capabilities: [{' '.join(sorted(unknown))}]"] if unknown else []


def _available(name: str, last: int) -> bool:
    try:
        return capabilities.bit(name) <= last
    except KeyError:
        return False
