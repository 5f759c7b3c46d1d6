"""`--explain` and `--plan`: the whole of what a container is, one step a line, without doing any and without root."""

from __future__ import annotations

from sampan.runtime import cgroup
from sampan.runtime.create import load_spec
from sampan.runtime.host import host_facts
from sampan.runtime.plan import Wishes, plan_container
from sampan.runtime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def plan_text(container_id: str, bundle: str, no_pivot: bool = False, no_new_keyring: bool = False) -> str:
    """The steps that `create` would take for the bundle. Errors: as `create`."""
    spec = load_spec(bundle)
    host = host_facts()
    linux = spec.get("linux", {})
    paths = cgroup.paths(host, linux.get("cgroupsPath", ""), container_id)
    terminal = bool(spec.get("process", {}).get("terminal"))
    filtered = b"..." if linux.get("seccomp") else None
    wishes = Wishes(container_id, bundle, [], paths, terminal, None, filtered, 0, 0, no_pivot, no_new_keyring)
    lines = [str(Step("make_cgroup", "linux.cgroupsPath", path=path)) for path in dict.fromkeys(paths.values())]
    lines += plan_container(spec, wishes, host).lines()
    return "".join(f"{line}\n" for line in lines) + _limits(linux.get("resources", {}))


def _limits(resources: Any) -> str:
    found = [str(Step("limit", f"linux.resources.{name}", set=value)) for name, value in resources.items() if value]
    return "".join(f"{line}\n" for line in found)
