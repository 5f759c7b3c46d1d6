"""sampan-containerd: the container core alone, serving containerd's API on a unix socket until it is told to stop.

Containers go on when it ends; the next one finds them. `sampan-containerd fsck` checks its directory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from sampan import VERSION
from sampan.errors import Error

if TYPE_CHECKING:
    from sampan.containerd.remotes.hosts import RegistrySettings

log = logging.getLogger("sampan.containerd")

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}


def main(arguments: list[str] | None = None) -> int:
    """The command `sampan-containerd`; its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["fsck"]:
        return _fsck(given[1:])
    options = _parser().parse_args(given)
    _log_to_stderr(_LEVELS[options.log_level])
    if os.geteuid() != 0:
        print("sampan-containerd: needs to be started with root privileges", file=sys.stderr)
        return 1
    os.umask(0o022)
    try:
        asyncio.run(_serve(options))
    except Error as error:
        print(f"sampan-containerd: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampan-containerd", description=__doc__, allow_abbrev=False)
    parser.add_argument("-a", "--address", default="/run/sampan/containerd.sock", help="unix socket to serve on")
    parser.add_argument("--root", default="/var/lib/sampan", help="directory of what lasts")
    parser.add_argument("--state", default="/run/sampan", help="directory of what lasts until the next boot")
    parser.add_argument("-l", "--log-level", default="info", choices=list(_LEVELS))
    parser.add_argument("--hosts-dir", action="append", metavar="DIR", help="directory of REGISTRY/hosts.toml")
    parser.add_argument("--insecure-registry", action="append", default=[], metavar="HOST", help="registry to trust")
    parser.add_argument("--registry-auth-file", default="", metavar="FILE", help="config.json with credentials")
    parser.add_argument("-v", "--version", action="version", version=f"sampan-containerd {VERSION}")
    return parser


def _fsck(arguments: list[str]) -> int:
    from sampan.containerd import fsck

    parser = argparse.ArgumentParser(
        prog="sampan-containerd fsck",
        description=fsck.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", default="/var/lib/sampan", help="directory of what lasts")
    parser.add_argument("--verify", action="store_true", help="read all blobs and take their digests")
    parser.add_argument("--repair", action="store_true", help="remove what has no owner and names without a file")
    parser.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    options = parser.parse_args(arguments)
    try:
        lines, faults = fsck.fsck(options.root, verify=options.verify, repair=options.repair)
    except (Error, OSError) as error:
        print(f"sampan-containerd: {error}", file=sys.stderr)
        return 2
    for line in lines:
        if line.fault or not options.quiet:
            print(line)
    return 1 if faults else 0


def _registries(options: argparse.Namespace) -> RegistrySettings:
    from sampan.containerd.remotes.hosts import HOSTS_DIRECTORIES, RegistrySettings

    return RegistrySettings(
        insecure=tuple(options.insecure_registry),
        hosts_directories=tuple(options.hosts_dir or HOSTS_DIRECTORIES),
        credentials_file=options.registry_auth_file,
    )


def _log_to_stderr(level: int) -> None:
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))
    # It calls a client that goes away an error.
    logging.getLogger("grpclib").setLevel(logging.CRITICAL if level > logging.DEBUG else logging.DEBUG)


async def _serve(options: argparse.Namespace) -> None:
    # Imported here so that --version answers at once.
    from sampan.containerd.core import open_core
    from sampan.containerd.grpc.serving import serve_grpc
    from sampan.containerd.tasks import KeeperTasks

    address, state = options.address, options.state
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    os.makedirs(state, mode=0o711, exist_ok=True)
    tasks = KeeperTasks(state)
    await tasks.open()
    try:
        core = await open_core(options.root, tasks=tasks, registries=_registries(options))
        try:
            server = await serve_grpc(core, address, state=state)
            # What is there now stays, and a full collection that looks at it all takes 70 ms of somebody's call.
            gc.collect()
            gc.freeze()
            try:
                log.info("containerd API listen on %s", address)
                await stop.wait()
                log.info("stopping")
            finally:
                await server.close()
        finally:
            await core.close()
    finally:
        await tasks.close()


if __name__ == "__main__":
    sys.exit(main())
