"""The verb `features`: what this runtime can, as the runtime-spec's features document. Source: features.md."""

from __future__ import annotations

from sampan import VERSION
from sampan.linux import abi
from sampan.oci.spec import HOOK_NAMES, NAMESPACE_TYPES
from sampan.runtime import seccomp, syscall_table
from sampan.runtime.host import HostFacts
from sampan.runtime.plan.mounts import ATTRIBUTES, PROPAGATION, SUPERBLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OTHER_OPTIONS = ("bind", "idmap", "rbind", "ridmap", "tmpcopyup")


def version_text() -> str:
    """What --version prints: the lines that podman and containerd look at."""
    return f"runc version {VERSION}\nspec: 1.2.0\n"


def document(host: HostFacts) -> dict[str, Any]:
    """The features document of this runtime on this host."""
    recursive = [f"r{word}" for word in ATTRIBUTES]
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": list(HOOK_NAMES),
        "mountOptions": sorted([*ATTRIBUTES, *recursive, *PROPAGATION, *SUPERBLOCK, *_OTHER_OPTIONS]),
        "linux": {
            "namespaces": sorted(NAMESPACE_TYPES),
            "capabilities": list(abi.CAPABILITIES[: host.last_cap + 1]),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(seccomp.ACTIONS),
                "operators": sorted(seccomp.OPERATORS),
                "archs": sorted(syscall_table.known_architectures()),
                "knownFlags": sorted(seccomp.FLAGS),
                "supportedFlags": sorted(seccomp.FLAGS),
            },
            # Whether the runtime can, as the spec wants it; whether the host does is another matter.
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": sorted(abi.MPOL_MODES), "flags": sorted(abi.MPOL_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "io.github.seccomp.libseccomp.version": "none",
            "org.opencontainers.runc.checkpoint.enabled": "true",
            "org.opencontainers.runc.version": VERSION,
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.criu.config", "org.systemd.property."],
    }
