"""GET /containers/{id}/top: the processes of a container in the words of ps, read from /proc."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sampan.engine.containers.model import require_running
from sampan.engine.containers.room import Room
from sampan.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Process:
    """From /proc/PID: times in clock ticks, `started` seconds since the epoch, `rss` and `vsize` in KiB."""

    pid: int
    ppid: int
    uid: int
    state: str
    tty: int
    ticks: int
    started: float
    rss: int
    vsize: int
    threads: int
    nice: int
    name: str
    command: str


async def top(room: Room, reference: str, ps_args: str = "-ef") -> tuple[list[str], list[list[str]]]:
    """(titles, a row a process). `ps_args`: -ef (default), aux or -o LIST; others show as -ef.

    NotFound; Conflict when it does not run; InvalidArgument for a column that is not known."""
    record = room.store.get(reference)
    if record.status != "paused":
        require_running(record, reference, "top")
    pids = await room.core.tasks.pids(record.id)
    room.publish(record, "top")
    processes = [found for pid in sorted(pids) if (found := read(pid)) is not None]
    chosen = columns(ps_args or "-ef")
    titles = [title for title, _ in chosen]
    return titles, [[value(process) for _, value in chosen] for process in processes]


def read(pid: int) -> Process | None:
    """None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, rest = file.read().rpartition(")")
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            command = raw.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    fields = rest.split()
    name = head.partition("(")[2]
    tick = os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime", encoding="ascii") as file:
        boot = time.time() - float(file.read().split()[0])
    return Process(
        pid=pid,
        state=fields[0],
        ppid=int(fields[1]),
        tty=int(fields[4]),
        ticks=int(fields[11]) + int(fields[12]),
        nice=int(fields[16]),
        threads=int(fields[17]),
        started=boot + int(fields[19]) / tick,
        vsize=int(fields[20]) // 1024,
        rss=int(fields[21]) * (os.sysconf("SC_PAGE_SIZE") // 1024),
        uid=uid,
        name=name,
        command=command or f"[{name}]",
    )


def _user(process: Process) -> str:
    try:
        return pwd.getpwuid(process.uid).pw_name
    except KeyError:
        return str(process.uid)


def _tty(process: Process) -> str:
    if not process.tty:
        return "?"
    major, minor = os.major(process.tty), os.minor(process.tty)
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else f"tty{minor}"


def _clock(process: Process) -> str:
    seconds = process.ticks // os.sysconf("SC_CLK_TCK")
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _start(process: Process) -> str:
    form = "%H:%M" if time.time() - process.started < 86400 else "%b%d"
    return time.strftime(form, time.localtime(process.started))


def _elapsed(process: Process) -> str:
    seconds = int(time.time() - process.started)
    hours = f"{seconds // 3600:02d}:" if seconds >= 3600 else ""
    return f"{hours}{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _cpu(process: Process) -> float:
    return 100 * process.ticks / os.sysconf("SC_CLK_TCK") / max(time.time() - process.started, 1)


def _memory(process: Process) -> str:
    total = os.sysconf("SC_PHYS_PAGES") * (os.sysconf("SC_PAGE_SIZE") // 1024)
    return f"{100 * process.rss / total:.1f}"


Column = tuple[str, Callable[[Process], str]]

_COLUMNS: Mapping[str, Column] = {
    "pid": ("PID", lambda process: str(process.pid)),
    "ppid": ("PPID", lambda process: str(process.ppid)),
    "uid": ("UID", lambda process: str(process.uid)),
    "user": ("USER", _user),
    "c": ("C", lambda process: str(int(_cpu(process)))),
    "stime": ("STIME", _start),
    "start": ("START", _start),
    "tty": ("TTY", _tty),
    "tt": ("TT", _tty),
    "time": ("TIME", _clock),
    "etime": ("ELAPSED", _elapsed),
    "cmd": ("CMD", lambda process: process.command),
    "args": ("COMMAND", lambda process: process.command),
    "command": ("COMMAND", lambda process: process.command),
    "comm": ("COMMAND", lambda process: process.name),
    "pcpu": ("%CPU", lambda process: f"{_cpu(process):.1f}"),
    "%cpu": ("%CPU", lambda process: f"{_cpu(process):.1f}"),
    "pmem": ("%MEM", _memory),
    "%mem": ("%MEM", _memory),
    "rss": ("RSS", lambda process: str(process.rss)),
    "vsz": ("VSZ", lambda process: str(process.vsize)),
    "stat": ("STAT", lambda process: process.state),
    "state": ("S", lambda process: process.state),
    "ni": ("NI", lambda process: str(process.nice)),
    "nlwp": ("NLWP", lambda process: str(process.threads)),
}

_FULL: Sequence[Column] = (
    ("UID", _user),
    *(_COLUMNS[name] for name in ("pid", "ppid", "c", "stime", "tty", "time", "cmd")),
)
_AUX: Sequence[Column] = tuple(
    _COLUMNS[name] for name in ("user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "command")
)


def columns(ps_args: str) -> Sequence[Column]:
    """(title, value of a process) for the arguments of ps. InvalidArgument."""
    words = ps_args.split()
    names: list[str] = []
    for position, word in enumerate(words):
        if word in ("-o", "-eo", "o") and position + 1 < len(words):
            names += words[position + 1].split(",")
        elif word.startswith("-o") and len(word) > 2:
            names += word[2:].split(",")
    if names:
        unknown = next((name for name in names if name.partition("=")[0] not in _COLUMNS), None)
        if unknown is not None:
            raise InvalidArgument(f'error: unknown user-defined format specifier "{unknown}"')
        return [
            (name.partition("=")[2] or _COLUMNS[name.partition("=")[0]][0], _COLUMNS[name.partition("=")[0]][1])
            for name in names
        ]
    return _AUX if any("u" in word for word in words) else _FULL
