"""The targets by name: one module each."""

from __future__ import annotations

TARGETS: dict[str, str] = {
    "cgroup_files": "fuzz.cgroup_files",
    "config": "fuzz.config",
    "digest": "fuzz.digest",
    "dockers_seccomp": "fuzz.dockers_seccomp",
    "erofs": "fuzz.erofs",
    "filters": "fuzz.filters",
    "flags": "fuzz.flags",
    "handshake": "fuzz.handshake",
    "image": "fuzz.image",
    "layer_tar": "fuzz.layer_tar",
    "mountinfo": "fuzz.mountinfo",
    "netlink": "fuzz.netlink",
    "passwd": "fuzz.passwd",
    "platform": "fuzz.platform",
    "process_files": "fuzz.process_files",
    "protobuf": "fuzz.protobuf",
    "reference": "fuzz.reference",
    "resources": "fuzz.resources",
    "seccomp": "fuzz.seccomp",
    "spec": "fuzz.spec",
    "state": "fuzz.state",
    "stdcopy": "fuzz.stdcopy",
    "ttrpc": "fuzz.ttrpc",
    "unpack": "fuzz.unpack",
}
