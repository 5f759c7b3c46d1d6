"""Platforms: normal forms and which of an index's manifests suits a host (image-index.md; containerd's `platforms`).

A host runs its own architecture and what that one is a superset of: arm64 runs arm v8, v7, v6, v5; amd64 v2 runs v1.
"""

from __future__ import annotations

import os
import re

from sampan import errors
from sampan.oci.image import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# uname(2) machine and other spellings -> (architecture, variant), GOARCH's words.
_ARCHITECTURES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "arm64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}
_KNOWN_OS = frozenset(
    (
        *("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd"),
        *("plan9", "solaris", "wasip1", "windows", "zos"),
    )
)
_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+\Z")
_ARM_VARIANT = re.compile(r"v([5-9])(?:\.\d+)?\Z")


def normalize(platform: Platform) -> Platform:
    """One spelling for each platform: "linux/aarch64" and "linux/arm64/v8" are both linux/arm64."""
    arch = platform.architecture.lower()
    variant = platform.variant.lower()
    arch, implied = _ARCHITECTURES.get(arch, (arch, ""))
    variant = variant or implied
    if variant.isdigit():
        variant = "v" + variant
    if (arch, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    if arch == "arm" and not variant:
        variant = "v7"
    system = platform.os.lower()
    return Platform("darwin" if system == "macos" else system, arch, variant, platform.os_version, platform.os_features)


def host() -> Platform:
    """The platform of the running kernel."""
    return normalize(Platform("linux", os.uname().machine))


def parse(text: str) -> Platform:
    """ "os", "arch", "os/arch" or "os/arch/variant", normalised. InvalidArgument in containerd's words."""
    parts = text.split("/")
    if "*" in text:
        raise errors.InvalidArgument(f'"{text}": wildcards not yet supported: invalid argument')
    if len(parts) > 3:
        raise errors.InvalidArgument(f'cannot parse platform specifier "{text}": invalid argument')
    for part in parts:
        if not _COMPONENT.match(part):
            raise errors.InvalidArgument(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 1:
        return normalize(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else ""))
    word = parts[0].lower()
    own = host()
    if word in _KNOWN_OS or word == "macos":
        return normalize(Platform(word, own.architecture, own.variant))
    if word in _ARCHITECTURES or word in {arch for arch, _ in _ARCHITECTURES.values()} or word == "arm":
        return normalize(Platform(own.os, word))
    raise errors.InvalidArgument(f'"{text}": unknown operating system or architecture: invalid argument')


def format(platform: Platform) -> str:
    """ "linux/arm/v7", as docker shows it."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def rank(wanted: Platform, offered: Platform) -> int | None:
    """How well `offered` suits a host of `wanted`: 0 is exact, more is further down the fallbacks, None is never."""
    wanted, offered = normalize(wanted), normalize(offered)
    if wanted.os != offered.os:
        return None
    order = _runs(wanted.architecture, wanted.variant)
    try:
        return order.index((offered.architecture, offered.variant))
    except ValueError:
        return None


def _runs(architecture: str, variant: str) -> list[tuple[str, str]]:
    """What a host of this architecture executes, best first."""
    found = _ARM_VARIANT.match(variant)
    if architecture == "arm" and found:
        return [("arm", f"v{n}") for n in range(int(found[1]), 4, -1)]
    if architecture == "arm64":
        newer = [("arm64", variant)] if variant else []
        return [*newer, ("arm64", ""), *(("arm", f"v{n}") for n in (8, 7, 6, 5))]
    if architecture == "amd64":
        level = int(variant[1:]) if variant[1:].isdigit() else 1
        levels = [("amd64", f"v{n}") for n in range(level, 1, -1)]
        return [*levels, ("amd64", ""), ("386", "")]
    return [(architecture, variant)] if not variant else [(architecture, variant), (architecture, "")]


def choose(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """Index into `offered` of the best match, the first of equals; an entry without a platform matches last."""
    best: tuple[int, int] | None = None
    for i, platform in enumerate(offered):
        score = 1000 if platform is None else rank(wanted, platform)
        if score is not None and (best is None or score < best[0]):
            best = (score, i)
    return None if best is None else best[1]
