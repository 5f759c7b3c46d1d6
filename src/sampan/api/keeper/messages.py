"""The conversation between sampand and a keeper: JSON objects, one a packet, over a SEQPACKET unix socket.

    sampand                                             keeper
      | {"id": 1, "call": "hello", "version": 1}           |
      |--------------------------------------------------->|
      | {"id": 1, "ok": {"version": 1, "pid": 4711}}       |
      |<---------------------------------------------------|
      | {"id": 2, "call": "create", "container": ...}      |
      |--------------------------------------------------->|  clone3, init prepares, stops before execve
      | {"id": 2, "ok": {"pid": 4712}}                     |
      |<---------------------------------------------------|
      | {"id": 3, "call": "attach", ...} + fds             |
      |--------------------------------------------------->|
      | {"id": 3, "ok": {"stdin": true}} + fd              |
      |<---------------------------------------------------|
      | {"id": 4, "call": "start", "container": ...}       |
      |--------------------------------------------------->|  execve
      | {"id": 4, "ok": {}}                                |
      |<---------------------------------------------------|
      | {"event": "exit", "container": ..., "status": 0}   |  output drained, exit recorded on disk, then told
      |<---------------------------------------------------|
      | {"id": 5, "call": "delete", "container": ...}      |
      |--------------------------------------------------->|

Calls are answered in any order (a slow create does not hold up others); `id` pairs them. Events go to every
connection that said `subscribe`. File descriptors travel by SCM_RIGHTS with the packet that names them. A packet is
at most MAX_PACKET bytes; what may be larger (the spec, an exec's process) is a file in the bundle, named by path.
A failure is {"id": n, "error": {"kind": K, "message": M}} with K a class name of `sampan.errors`.

An answer that would be too large comes in several packets of the same id, all but the last with "more": true in
"ok"; their lists are to be joined. `list` also tells once, as exec_exits, the exits of execs that nobody was
subscribed for when they happened. A failed start or exec is told by its error alone: no exit event follows.
What cannot be read as a call is answered with "id": null.

The tables below are the whole vocabulary: name -> {field: meaning}. A "?" ends an optional field.
"""

from __future__ import annotations

VERSION = 1
MAX_PACKET = 64 * 1024

CALLS: dict[str, dict[str, str]] = {
    "hello": {"version": "int"},
    "subscribe": {},
    "create": {
        "container": "id, unique in this keeper",
        "bundle": "absolute directory that holds config.json",
        "root": "the runtime's state root (runc --root)",
        "runtime?": 'path of another OCI runtime; "" or absent: ours, forked',
        "rootfs": 'list of {"type", "source", "options", "target"}: mounted at the spec\'s root.path, in the '
        "container's own mount namespace when the runtime is ours",
        "terminal": "bool",
        "stdin": "bool: keep an input open; false: /dev/null",
        "stdin_once?": "bool: close the input when the first attached client's input ends",
        "log?": '{"path", "max_size", "max_file"}: json-file format',
        "console_size?": "[height, width]",
        "options?": "an object of OPTIONS",
        "checkpoint?": "directory of a checkpoint's images: `start` restores them, and there is no process before",
    },
    "start": {"container": "id"},
    "exec": {
        "container": "id",
        "exec": "id, unique in the container",
        "process": "path of a file with the runtime-spec process object",
        "terminal": "bool",
        "stdin": "bool",
        "console_size?": "[height, width]",
    },
    "attach": {
        "container": "id",
        "exec": 'id or ""; an exec that does not exist yet may be attached to: its streams wait for it',
        "stdout": "bool: an fd for it is in the packet (first)",
        "stderr": "bool: an fd for it is in the packet (after stdout's)",
        "stdin": "bool: answer with an fd to write to (for a coming exec: a pipe made now)",
    },
    "logger": {
        "container": "id",
        "exec": 'id or "", as for attach',
        "uri": "binary:///path?key=value of a logging program",
        "known_as": "CONTAINER_ID for it",
        "namespace": "CONTAINER_NAMESPACE for it",
    },
    "close_stdin": {"container": "id", "exec": 'id or ""'},
    "resize": {"container": "id", "exec": 'id or ""', "height": "rows", "width": "columns"},
    "kill": {"container": "id", "exec": 'id or ""', "signal": "number", "all": "bool: every process in the cgroup"},
    "pause": {"container": "id"},
    "resume": {"container": "id"},
    "update": {"container": "id", "resources": "runtime-spec linux.resources object"},
    "checkpoint": {
        "container": "id",
        "flags": "list of the flags of runc checkpoint, which say where its images go; without --leave-running the "
        "task ends",
    },
    "stats": {"container": "id"},
    "pids": {"container": "id"},
    "delete": {"container": "id"},
    "list": {},
    "shutdown": {},
}

OPTIONS: dict[str, tuple[type, str]] = {
    "name": (str, "the id that the runtime and its hooks see; without it the container's"),
    "root": (str, "the runtime's --root as it is; without it `root`, with the binary's name added when it is not ours"),
    "systemd_cgroup": (bool, "cgroupsPath is slice:prefix:name"),
    "no_pivot_root": (bool, "runc create --no-pivot"),
    "no_new_keyring": (bool, "runc create --no-new-keyring"),
    "io_uid": (int, "who owns the pipes; without it the container's user"),
    "io_gid": (int, "likewise"),
}
"""What containerd's clients may ask of a runtime (`containerd.runc.v1.Options`); every one may be absent."""

RESULTS: dict[str, dict[str, str]] = {
    "hello": {"version": "int", "pid": "the keeper's"},
    "create": {"pid": "init's, in the host's pid namespace; 0 with a checkpoint"},
    "start": {"pid": "init's, known only now with a checkpoint"},
    "exec": {"pid": "its pid"},
    "attach": {"stdin": "bool: an fd is in the packet"},
    "stats": {"data": "as runc events --stats"},
    "pids": {"pids": "list of int"},
    "delete": {"exit": "an exit object or null when it never ran"},
    "list": {
        "tasks": 'list of {"container", "pid", "status": created|running|paused|stopped, "exit": exit object or '
        'null, "execs": [ids]}',
        "exec_exits": "list of exit objects with an exec id that happened while nobody was subscribed; told once",
        "more?": "true: another packet of this answer follows",
    },
}

TYPES: dict[str, type] = {
    "version": int,
    "container": str,
    "bundle": str,
    "root": str,
    "runtime": str,
    "rootfs": list,
    "terminal": bool,
    "stdin": bool,
    "stdin_once": bool,
    "log": dict,
    "console_size": list,
    "options": dict,
    "uri": str,
    "known_as": str,
    "namespace": str,
    "exec": str,
    "process": str,
    "stdout": bool,
    "stderr": bool,
    "height": int,
    "width": int,
    "signal": int,
    "all": bool,
    "resources": dict,
    "flags": list,
    "checkpoint": str,
}
"""The JSON type of each field of a call; an optional field may also be null."""

EVENTS: dict[str, dict[str, str]] = {
    "exit": {
        "container": "id",
        "exec": 'id or "" for the task itself',
        "pid": "int",
        "status": "0..255, or 128 + signal",
        "at": "nanoseconds since the epoch",
        "oom": "bool",
    },
    "oom": {"container": "id"},
}
