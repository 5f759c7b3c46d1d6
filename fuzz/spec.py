"""The planner: whatever is wrong in a spec, it is planned or refused by one error with the field's path."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from fuzz.documents import texts
from fuzz.mutation import Path, of_json
from sampan import errors
from sampan.linux.cgroupfs import Hierarchy
from sampan.oci import spec as oci_spec
from sampan.runtime import cgroup, seccomp
from sampan.runtime.cgroup import devices, v2
from sampan.runtime.host import HostFacts
from sampan.runtime.plan import Wishes, plan_container, warnings

SEEDS = [json.dumps([json.loads(text), []]).encode() for text in texts()]
ERRORS = ()

_REFUSALS = (errors.InvalidArgument, errors.Unimplemented)
_PATH = re.compile(r"^(config\.json|ociVersion|root|process|hostname|domainname|mounts|hooks|annotations|linux)\b")
# runc's own words for what concerns one field or several: they are matched on, and have no path.
_WORDS = re.compile(
    r"args must not be empty|Cwd (must be|property)|root must be specified|invalid rootfs|malformed spec file"
    r"|unable to set (host|domain)name without|user namespace|time namespace offsets|unable to restrict sys entries"
    r'|^sysctl "|^error mounting "|cgroup path|^unable to start container process: '
    r"|^selinux label is specified in config"
)
_V1 = [Hierarchy(1, (name,), "", f"/sys/fs/cgroup/{name}", "/") for name in ("memory", "cpu", "pids", "devices")]
_V2 = [Hierarchy(2, ("memory", "cpu", "pids", "io"), "", "/sys/fs/cgroup", "/")]


def mutate(data: bytes, random: Random) -> bytes:
    """One to three values of the document; with it go their paths."""
    document, _ = json.loads(data)
    changed: list[Path] = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        document, path = of_json(document, random)
        changed.append(path)
        if not document:
            break
    return json.dumps([document, changed]).encode()


def feed(data: bytes, random: Random) -> None:
    """Through everything that looks at a spec before the first system call."""
    document, changed = json.loads(data)
    rooted = random.randrange(2)
    hierarchies = random.choice((_V1, _V2, []))
    own = dict.fromkeys([key for one in hierarchies for key in one.keys()], "/")  # noqa: SIM118
    host = HostFacts(hierarchies, own, (1 << 41) - 1, 40, "x86_64", euid=0 if rooted else 1000, rootless=not rooted)
    try:
        planned(document, host)
    except _REFUSALS as refusal:
        _check(str(refusal), changed)


def planned(document: Any, host: HostFacts) -> None:
    """The plan and the filter as `launch` makes them, and the limits as far as they are computed."""
    spec = oci_spec.validate(document)
    linux = spec.get("linux", {})
    warnings.of_spec(spec, host)
    paths = cgroup.paths(host, linux.get("cgroupsPath", ""), "boat")
    program = None
    if linux.get("seccomp"):
        program = seccomp.compile_profile(linux["seccomp"], "x86_64")
        seccomp.load_flags(linux["seccomp"])
    wishes = Wishes("boat", "/bundle", [], paths, bool(spec.get("process", {}).get("terminal")), None, program)
    if "process" in spec:
        plan = plan_container(spec, wishes, host)
        for line in plan.lines():
            assert "\n" not in line or "\\n" in json.dumps(document), line
    resources = linux.get("resources", {})
    v2.writes(resources)
    if resources.get("devices"):
        devices.v1_writes(resources["devices"])
        devices.bpf_program(resources["devices"])


def _check(text: str, changed: list[list[str | int]]) -> None:
    """A refusal names a field, and one that has to do with what was changed; or it has runc's words."""
    assert text
    if _WORDS.search(text):
        return
    assert _PATH.match(text), f"no path: {text}"
    if not changed:
        raise AssertionError(f"a good document is refused: {text}")
    named = re.split(r"[.\[: ]", text)[0]
    assert named == "config.json" or any(str(path[0]) == named for path in changed), f"{changed}: {text}"
