"""Seccomp profiles: Docker's format, with its conditions, to the runtime-spec's `linux.seccomp` object. Pure.

Docker's profile format is the runtime-spec's plus `archMap` (architecture with sub-architectures) and, per rule,
`includes` / `excludes`: conditions on architecture, capabilities and kernel version.
Source: docker's profiles/seccomp documentation; runtime-spec config-linux.md "Seccomp".
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sampan.errors import InvalidArgument

# uname -m to (Docker's name of the architecture, libseccomp's).
ARCHES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}


@functools.cache
def default_profile() -> Mapping[str, Any]:
    """Docker's default profile (28.x), as shipped with the package."""
    text = importlib.resources.files(__package__).joinpath("seccomp-default.json").read_text("utf-8")
    profile: Mapping[str, Any] = json.loads(text)
    return profile


@functools.lru_cache(maxsize=64)
def resolve_default(machine: str, kernel: tuple[int, int], caps: tuple[str, ...]) -> Mapping[str, Any]:
    """The default profile for one capability set; shared, so not to be changed."""
    return resolve(default_profile(), machine, kernel, caps)


def parse(text: str, machine: str, kernel: tuple[int, int], caps: Sequence[str]) -> Mapping[str, Any]:
    """A profile given by the client (--security-opt seccomp=FILE sends its content). InvalidArgument."""
    try:
        profile = json.loads(text)
        if not isinstance(profile, dict):
            raise ValueError("not an object")
        return resolve(profile, machine, kernel, caps)
    except InvalidArgument:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"decoding seccomp profile failed: {error}") from None


def resolve(
    profile: Mapping[str, Any], machine: str, kernel: tuple[int, int], caps: Sequence[str]
) -> Mapping[str, Any]:
    """The runtime-spec object: rules whose conditions hold for this machine, kernel and capability set."""
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidArgument(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' "
            "or 'archMap'"
        )
    arch, native = ARCHES.get(machine, (machine, ""))
    found: dict[str, Any] = {"defaultAction": profile["defaultAction"]}
    for key in ("defaultErrnoRet", "listenerPath", "listenerMetadata"):
        if profile.get(key):
            found[key] = profile[key]
    if profile.get("flags"):
        found["flags"] = list(profile["flags"])
    architectures = list(profile.get("architectures") or ())
    for entry in profile.get("archMap") or ():
        if entry.get("architecture") == native:
            architectures = [native, *(entry.get("subArchitectures") or ())]
    if architectures:
        found["architectures"] = architectures
    held = frozenset(caps)
    found["syscalls"] = [_rule(rule) for rule in profile.get("syscalls") or () if _applies(rule, arch, kernel, held)]
    return found


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    if rule.get("name") and rule.get("names"):
        raise InvalidArgument("use either 'name' or 'names' when defining a seccomp rule")
    found: dict[str, Any] = {"names": list(rule.get("names") or [rule["name"]]), "action": rule["action"]}
    if rule.get("errnoRet") is not None:
        found["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        found["args"] = [dict(argument) for argument in rule["args"]]
    return found


def _applies(rule: Mapping[str, Any], arch: str, kernel: tuple[int, int], caps: frozenset[str]) -> bool:
    excludes = rule.get("excludes") or {}
    if arch in (excludes.get("arches") or ()):
        return False
    if any(cap in caps for cap in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]):
        return False
    includes = rule.get("includes") or {}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if includes.get("minKernel") and kernel < _version(includes["minKernel"]):
        return False
    return all(cap in caps for cap in includes.get("caps") or ())


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
