"""Starts `sampand` in the background when no engine answers at the default address."""

from __future__ import annotations

import os
import select
import sys

from sampan.cli.connection import DEFAULT_SOCKET, Api, ApiError, NoEngine

STATE = os.path.dirname(DEFAULT_SOCKET)
_PATIENCE_S = 15


def _spawn(log: str) -> int:
    """sampand in a session of its own with output to `log`; its pid. It outlives this command."""
    command = [sys.executable, "-m", "sampan.engine"]
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, out, 2),
    ]
    try:
        return os.posix_spawn(command[0], command, environ, file_actions=actions, setsid=True)
    finally:
        os.close(out)


def start_engine(host: str) -> None:
    """Start sampand and return when it answers. NoEngine with the reason when it cannot."""
    if os.geteuid() != 0:
        raise NoEngine(f"no engine answers at {host}, and starting one needs root")
    os.makedirs(STATE, mode=0o711, exist_ok=True)
    log = f"{STATE}/sampand.log"
    print(f"sampan: no engine at {host}: starting sampand in the background (log: {log})", file=sys.stderr)
    pid = _spawn(log)
    # An end of the process is the only thing to wait for by descriptor; the socket has no notice of its own.
    watch = select.poll()
    pidfd = os.pidfd_open(pid)
    watch.register(pidfd, select.POLLIN)
    try:
        for _ in range(_PATIENCE_S * 50):
            if watch.poll(20):
                raise NoEngine(f"sampand ended at once; the last line of {log}: {_last_line(log)}")
            try:
                Api(host).request("GET", "/_ping").close()
                return
            except (NoEngine, ApiError):
                continue
    finally:
        os.close(pidfd)
    raise NoEngine(f"sampand did not answer within {_PATIENCE_S} s; see {log}")


def _last_line(path: str) -> str:
    with open(path, errors="replace") as log:
        return (log.read().strip().splitlines() or ["(empty)"])[-1]
