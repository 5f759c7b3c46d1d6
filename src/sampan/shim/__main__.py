"""`containerd-shim-sampan-v2`: what containerd runs for a container of `--runtime io.containerd.sampan.v2`.

start     beside a new bundle: leave a shim serving and say where      delete   clean up after one that died
-v        the version                                                  -info    RuntimeInfo on stdout
serve     (of `start`'s own making) be the shim
nurse     (likewise) be the parent of this one and of others
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STRINGS = ("namespace", "id", "address", "publish-binary", "bundle", "socket", "debug-socket", "nursery")
SWITCHES = ("debug", "v", "version", "info")
LISTENER = 3


def parse(arguments: list[str]) -> tuple[dict[str, Any], str]:
    """(flags by name, verb), as Go's flag package reads them. ValueError with its words."""
    flags: dict[str, Any] = {**dict.fromkeys(STRINGS, ""), **dict.fromkeys(SWITCHES, False)}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).lstrip("-").partition("=")
        if name in SWITCHES:
            flags[name] = value not in ("0", "false", "f")
        elif name not in STRINGS:
            raise ValueError(f"flag provided but not defined: -{name}")
        elif equals:
            flags[name] = value
        elif rest:
            flags[name] = rest.pop(0)
        else:
            raise ValueError(f"flag needs an argument: -{name}")
    return flags, rest[0] if rest else ""


def main(arguments: list[str]) -> None:
    """Do what the arguments say and end the process: 0, or 1 with the reason on stderr."""
    from sampan.errors import Error

    try:
        flags, verb = parse(arguments)
        _run(flags, verb, arguments)
    except (ValueError, Error, OSError) as error:
        os.write(2, f"io.containerd.sampan.v2: {error}\n".encode(errors="replace"))
        os._exit(1)
    # Not the interpreter's own end: there is nothing to be tidied up, and it takes milliseconds.
    os._exit(0)


def _run(flags: dict[str, Any], verb: str, arguments: list[str]) -> None:
    if flags["v"] or flags["version"]:
        from sampan import VERSION

        os.write(1, f"containerd-shim-sampan-v2:\n  Version:  {VERSION}\n  Revision: \n\n".encode())
    elif flags["info"]:
        from sampan.shim.info import document

        os.write(1, document())
    elif not flags["namespace"]:
        raise ValueError("shim namespace cannot be empty")
    elif verb == "start":
        from sampan.shim.start import MAX_INPUT, start

        stdin = b""
        while len(stdin) < MAX_INPUT and (part := os.read(0, 65536)):
            stdin += part
        os.write(1, start(flags, stdin))
    elif verb == "delete":
        _seal(arguments)
        from sampan.keeper.library import Library
        from sampan.shim.delete import run as delete

        os.write(1, delete(flags["id"], flags["bundle"] or os.getcwd(), Library()))
    elif verb == "serve":
        _seal(arguments)
        from sampan.keeper.library import Library
        from sampan.shim.serve import run as serve

        serve(flags["namespace"], flags["socket"], LISTENER, os.environ.get("TTRPC_ADDRESS", ""), Library())
    elif verb == "nurse":
        _seal(arguments)
        from sampan.keeper.library import Library
        from sampan.shim.nursery import Nursery

        first = (flags["namespace"], flags["socket"], os.environ.get("TTRPC_ADDRESS", ""), os.getcwd())
        Nursery(flags["nursery"], Library()).run(first, LISTENER)
    else:
        raise ValueError(f'unknown verb "{verb}"')


def _seal(arguments: list[str]) -> None:
    """Near a container only as an interpreter that cannot be written through it (CVE-2019-5736)."""
    from sampan.runtime.seal import is_sealed, reexec

    if not is_sealed():
        reexec("sampan.shim.__main__", arguments)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main(sys.argv[1:])
