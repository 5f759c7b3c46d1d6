"""containerd's messages that a shim reads and writes, as tables for `wire.protobuf`.

The .proto files of the same messages are in `api/containerd`; a test compares every field of both. Tables, because a
shim is a process for each container: Google's library would be the larger part of it. The packages containerd.task.v2
and containerd.task.v3 differ in their names alone.
"""

from __future__ import annotations

from sampan.wire.protobuf import BOOL, BYTES, INT, MAP, STRING, UINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.wire.protobuf import Table

TASK_SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
EVENTS_SERVICE = "containerd.services.events.ttrpc.v1.Events"

# containerd.v1.types.Status
STATUSES = {"created": 1, "running": 2, "stopped": 3, "paused": 4}

ANY: Table = {1: ("type_url", STRING), 2: ("value", BYTES)}
TIMESTAMP: Table = {1: ("seconds", INT), 2: ("nanos", INT)}
EMPTY: Table = {}
MOUNT: Table = {1: ("type", STRING), 2: ("source", STRING), 3: ("target", STRING), 4: ("options", [STRING])}
_ID: Table = {1: ("id", STRING)}
_PROCESS: Table = {1: ("id", STRING), 2: ("exec_id", STRING)}
_ENDED: Table = {1: ("pid", UINT), 2: ("exit_status", UINT), 3: ("exited_at", TIMESTAMP)}

CREATE: Table = {
    1: ("id", STRING),
    2: ("bundle", STRING),
    3: ("rootfs", [MOUNT]),
    4: ("terminal", BOOL),
    5: ("stdin", STRING),
    6: ("stdout", STRING),
    7: ("stderr", STRING),
    8: ("checkpoint", STRING),
    9: ("parent_checkpoint", STRING),
    10: ("options", ANY),
}
EXEC: Table = {
    1: ("id", STRING),
    2: ("exec_id", STRING),
    3: ("terminal", BOOL),
    4: ("stdin", STRING),
    5: ("stdout", STRING),
    6: ("stderr", STRING),
    7: ("spec", ANY),
}
STATE: Table = {
    1: ("id", STRING),
    2: ("bundle", STRING),
    3: ("pid", UINT),
    4: ("status", INT),
    5: ("stdin", STRING),
    6: ("stdout", STRING),
    7: ("stderr", STRING),
    8: ("terminal", BOOL),
    9: ("exit_status", UINT),
    10: ("exited_at", TIMESTAMP),
    11: ("exec_id", STRING),
}
PID: Table = {1: ("pid", UINT)}
PROCESS_INFO: Table = {1: ("pid", UINT), 2: ("info", ANY)}
DELETED: Table = _ENDED

METHODS: dict[str, tuple[str, Table, str, Table]] = {
    "State": ("StateRequest", _PROCESS, "StateResponse", STATE),
    "Create": ("CreateTaskRequest", CREATE, "CreateTaskResponse", PID),
    "Start": ("StartRequest", _PROCESS, "StartResponse", PID),
    "Delete": ("DeleteRequest", _PROCESS, "DeleteResponse", DELETED),
    "Pids": ("PidsRequest", _ID, "PidsResponse", {1: ("processes", [PROCESS_INFO])}),
    "Pause": ("PauseRequest", _ID, "", EMPTY),
    "Resume": ("ResumeRequest", _ID, "", EMPTY),
    "Checkpoint": (
        "CheckpointTaskRequest",
        {1: ("id", STRING), 2: ("path", STRING), 3: ("options", ANY)},
        "",
        EMPTY,
    ),
    "Kill": ("KillRequest", {**_PROCESS, 3: ("signal", UINT), 4: ("all", BOOL)}, "", EMPTY),
    "Exec": ("ExecProcessRequest", EXEC, "", EMPTY),
    "ResizePty": ("ResizePtyRequest", {**_PROCESS, 3: ("width", UINT), 4: ("height", UINT)}, "", EMPTY),
    "CloseIO": ("CloseIORequest", {**_PROCESS, 3: ("stdin", BOOL)}, "", EMPTY),
    "Update": (
        "UpdateTaskRequest",
        {1: ("id", STRING), 2: ("resources", ANY), 3: ("annotations", MAP)},
        "",
        EMPTY,
    ),
    "Wait": (
        "WaitRequest",
        _PROCESS,
        "WaitResponse",
        {1: ("exit_status", UINT), 2: ("exited_at", TIMESTAMP)},
    ),
    "Stats": ("StatsRequest", _ID, "StatsResponse", {1: ("stats", ANY)}),
    "Connect": (
        "ConnectRequest",
        _ID,
        "ConnectResponse",
        {1: ("shim_pid", UINT), 2: ("task_pid", UINT), 3: ("version", STRING)},
    ),
    "Shutdown": ("ShutdownRequest", {1: ("id", STRING), 2: ("now", BOOL)}, "", EMPTY),
}
"""Method -> (request's name, its table, response's name or "" for google.protobuf.Empty, its table)."""

IO: Table = {1: ("stdin", STRING), 2: ("stdout", STRING), 3: ("stderr", STRING), 4: ("terminal", BOOL)}
_OF_CONTAINER: Table = {1: ("container_id", STRING)}
EVENTS: dict[str, tuple[str, Table]] = {
    "create": (
        "TaskCreate",
        {
            1: ("container_id", STRING),
            2: ("bundle", STRING),
            3: ("rootfs", [MOUNT]),
            4: ("io", IO),
            5: ("checkpoint", STRING),
            6: ("pid", UINT),
        },
    ),
    "start": ("TaskStart", {1: ("container_id", STRING), 2: ("pid", UINT)}),
    "delete": (
        "TaskDelete",
        {
            1: ("container_id", STRING),
            2: ("pid", UINT),
            3: ("exit_status", UINT),
            4: ("exited_at", TIMESTAMP),
            5: ("id", STRING),
        },
    ),
    "exit": (
        "TaskExit",
        {
            1: ("container_id", STRING),
            2: ("id", STRING),
            3: ("pid", UINT),
            4: ("exit_status", UINT),
            5: ("exited_at", TIMESTAMP),
        },
    ),
    "oom": ("TaskOOM", _OF_CONTAINER),
    "exec-added": ("TaskExecAdded", {1: ("container_id", STRING), 2: ("exec_id", STRING)}),
    "exec-started": ("TaskExecStarted", {1: ("container_id", STRING), 2: ("exec_id", STRING), 3: ("pid", UINT)}),
    "paused": ("TaskPaused", _OF_CONTAINER),
    "resumed": ("TaskResumed", _OF_CONTAINER),
    "checkpointed": ("TaskCheckpointed", {1: ("container_id", STRING), 2: ("checkpoint", STRING)}),
}
"""Last part of the topic "/tasks/..." -> (name in the package containerd.events, table)."""

ENVELOPE: Table = {1: ("timestamp", TIMESTAMP), 2: ("namespace", STRING), 3: ("topic", STRING), 4: ("event", ANY)}
FORWARD: Table = {1: ("envelope", ENVELOPE)}

OPTIONS_TYPE = "containerd.runc.v1.Options"
OPTIONS: Table = {
    1: ("no_pivot_root", BOOL),
    2: ("no_new_keyring", BOOL),
    3: ("shim_cgroup", STRING),
    4: ("io_uid", UINT),
    5: ("io_gid", UINT),
    6: ("binary_name", STRING),
    7: ("root", STRING),
    9: ("systemd_cgroup", BOOL),
    10: ("criu_image_path", STRING),
    11: ("criu_work_path", STRING),
    12: ("task_api_address", STRING),
    13: ("task_api_version", UINT),
}
CHECKPOINT_TYPE = "containerd.runc.v1.CheckpointOptions"
CHECKPOINT_OPTIONS: Table = {
    1: ("exit", BOOL),
    2: ("open_tcp", BOOL),
    3: ("external_unix_sockets", BOOL),
    4: ("terminal", BOOL),
    5: ("file_locks", BOOL),
    6: ("empty_namespaces", [STRING]),
    7: ("cgroups_mode", STRING),
    8: ("image_path", STRING),
    9: ("work_path", STRING),
    10: ("parent_path", STRING),
}
PROCESS_DETAILS_TYPE = "containerd.runc.v1.ProcessDetails"
PROCESS_DETAILS: Table = {1: ("exec_id", STRING)}

BOOTSTRAP: Table = {
    1: ("instance_id", STRING),
    2: ("namespace", STRING),
    3: ("log_level", INT),
    4: ("containerd_version", STRING),
    5: ("containerd_ttrpc_address", STRING),
    6: ("containerd_grpc_address", STRING),
    7: ("containerd_binary", STRING),
    8: ("extensions", [{1: ("value", ANY)}]),
    9: ("socket_dir", STRING),
}
BOOTSTRAP_RESULT: Table = {
    1: ("version", INT),
    2: ("address", STRING),
    3: ("protocol", STRING),
    4: ("capabilities", [INT]),
    5: ("metadata", MAP),
}
RUNTIME_VERSION: Table = {1: ("version", STRING), 2: ("revision", STRING)}
RUNTIME_INFO: Table = {
    1: ("name", STRING),
    2: ("version", RUNTIME_VERSION),
    3: ("options", ANY),
    4: ("features", ANY),
    5: ("annotations", MAP),
}


def timestamp(nanoseconds: int) -> dict[str, int]:
    """Of a time since the epoch."""
    return {"seconds": nanoseconds // 10**9, "nanos": nanoseconds % 10**9}
