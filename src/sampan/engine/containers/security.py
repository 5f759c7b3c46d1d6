"""--security-opt: Docker's words to values. Pure.

`key=value` or the older `key:value`; `label` (SELinux) is accepted and has no effect on a kernel without SELinux.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sampan.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """`seccomp` is "", "unconfined", "builtin" or a profile's JSON; `apparmor` a profile's name or ""."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    systempaths_unconfined: bool = False


def security_options(options: Sequence[str]) -> SecurityOptions:
    """InvalidArgument `invalid --security-opt 2: "x"` and its like."""
    no_new_privileges, seccomp, apparmor, systempaths = False, "", "", False
    for option in options:
        if option == "no-new-privileges":
            no_new_privileges = True
            continue
        if option == "disable":
            continue
        key, found, value = option.partition("=")
        if not found:
            key, found, value = option.partition(":")
        if not found:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        if key == "label":
            continue
        if key == "apparmor":
            apparmor = value
        elif key == "seccomp":
            seccomp = value
        elif key == "no-new-privileges":
            if value not in ("true", "false"):
                raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
            no_new_privileges = value == "true"
        elif key == "writable-cgroups":
            if value not in ("true", "false"):
                raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
        elif key == "systempaths" and value == "unconfined":
            systempaths = True
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(no_new_privileges, seccomp, apparmor, systempaths)
