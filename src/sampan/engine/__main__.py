"""sampand: reads settings, holds the pidfile, serves until it is told to stop.

SIGTERM and SIGINT end it; containers go on unless --live-restore=false (docs/decisions/containers-outlive-sampand.md).
Log lines go to stderr.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sqlite3
import sys
import time

from sampan.engine import settings as configuration
from sampan.errors import Error

log = logging.getLogger("sampan")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def main(arguments: list[str] | None = None) -> int:
    """The command `sampand`; its exit status."""
    try:
        settings, only_check = configuration.from_arguments(sys.argv[1:] if arguments is None else arguments)
        if only_check:
            print("configuration OK", file=sys.stderr)
            return 0
        _log_to_stderr(settings)
        if os.geteuid() != 0:
            raise Error("sampand needs to be started with root privileges")
        # Nothing that the engine makes is for others unless it says so.
        os.umask(0o022)
        pidfile = _take(settings.pidfile)
    except (Error, OSError) as error:
        print(f"failed to start daemon: {error}", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_serve(settings))
    finally:
        os.unlink(settings.pidfile)
        os.close(pidfile)


def _log_to_stderr(settings: configuration.Settings) -> None:
    formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    level = logging.DEBUG if settings.debug else _LEVELS[settings.log_level]
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))


def _take(path: str) -> int:
    """Write our pid into `path` and hold a lock on it; the lock's fd. Error while another sampand holds it.

    The lock, not the pid, says whether the writer lives: after a crash the number may belong to anybody."""
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise Error(
            f"ensure sampand is not running or delete {path}: process with PID {owner} is still running"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


async def _serve(settings: configuration.Settings) -> int:
    # Imported here so that --version and a refused pidfile answer at once.
    from sampan.engine.compose import open_engine, route_tables
    from sampan.engine.http import server

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A handler and not SIG_IGN, which every process started from here would inherit.
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP: reloading the configuration is not offered")
    sockets = [host.removeprefix("unix://") for host in settings.hosts if host.startswith("unix://")]
    try:
        async with open_engine(settings) as engine:
            runner = await server.serve(server.application(route_tables(engine), experimental=settings.experimental))
            try:
                for host in settings.hosts:
                    log.info("API listen on %s", await server.listen(runner, host, group=settings.group))
                _notify("READY=1")
                await stop.wait()
                _notify("STOPPING=1")
                log.info("stopping")
            finally:
                for path in sockets:
                    if os.path.exists(path):
                        os.unlink(path)
                await runner.cleanup()
    except (Error, OSError, sqlite3.Error) as error:
        log.critical("failed to start daemon: %s", error)
        log.debug("where it failed", exc_info=error)
        return 1
    return 0


def _notify(text: str) -> None:
    """sd_notify(3): tell systemd, when it started us as Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


if __name__ == "__main__":
    sys.exit(main())
