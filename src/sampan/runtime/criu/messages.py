"""CRIU's messages, as tables for `codec`: names and numbers of those fields that the runtime sends or reads.

Source: criu.org/RPC, images/rpc.proto of CRIU 4.2.
"""

from __future__ import annotations

from sampan.runtime.criu.codec import BOOL, INT32, OPTIONAL, REPEATED, REQUIRED, STRING, UINT32

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
"""Types of a request, and of the response to it. NOTIFY is a response amid another's, and answered by a request."""

TYPES = {
    0: "EMPTY", 1: "DUMP", 2: "RESTORE", 3: "CHECK", 4: "PRE_DUMP", 5: "PAGE_SERVER", 6: "NOTIFY", 7: "CPUINFO_DUMP",
    8: "CPUINFO_CHECK", 9: "FEATURE_CHECK", 10: "VERSION", 11: "WAIT_PID", 12: "PAGE_SERVER_CHLD",
    13: "SINGLE_PRE_DUMP",
}  # fmt: skip
"""What an error calls them."""

IGNORE, SOFT, FULL, STRICT = 0, 3, 4, 5
"""What `manage_cgroups_mode` may be."""

PAGE_SERVER = {
    "address": (1, STRING, OPTIONAL),
    "port": (2, INT32, OPTIONAL),
}
MOUNT = {
    "key": (1, STRING, REQUIRED),
    "val": (2, STRING, REQUIRED),
}
NAMESPACE = {
    "ns": (1, STRING, REQUIRED),
    "ns_file": (2, STRING, REQUIRED),
}
DESCRIPTOR = {
    "key": (1, STRING, REQUIRED),
    "fd": (2, INT32, REQUIRED),
}
CGROUP_ROOT = {
    "ctrl": (1, STRING, OPTIONAL),
    "path": (2, STRING, REQUIRED),
}
FEATURES = {
    "mem_track": (1, BOOL, OPTIONAL),
    "lazy_pages": (2, BOOL, OPTIONAL),
}
OPTIONS = {
    "images_dir_fd": (1, INT32, REQUIRED),
    "pid": (2, INT32, OPTIONAL),
    "leave_running": (3, BOOL, OPTIONAL),
    "ext_unix_sk": (4, BOOL, OPTIONAL),
    "tcp_established": (5, BOOL, OPTIONAL),
    "evasive_devices": (6, BOOL, OPTIONAL),
    "shell_job": (7, BOOL, OPTIONAL),
    "file_locks": (8, BOOL, OPTIONAL),
    "log_level": (9, INT32, OPTIONAL),
    "log_file": (10, STRING, OPTIONAL),
    "ps": (11, PAGE_SERVER, OPTIONAL),
    "notify_scripts": (12, BOOL, OPTIONAL),
    "root": (13, STRING, OPTIONAL),
    "parent_img": (14, STRING, OPTIONAL),
    "track_mem": (15, BOOL, OPTIONAL),
    "auto_dedup": (16, BOOL, OPTIONAL),
    "work_dir_fd": (17, INT32, OPTIONAL),
    "link_remap": (18, BOOL, OPTIONAL),
    "ext_mnt": (23, MOUNT, REPEATED),
    "manage_cgroups": (24, BOOL, OPTIONAL),
    "cg_root": (25, CGROUP_ROOT, REPEATED),
    "rst_sibling": (26, BOOL, OPTIONAL),
    "inherit_fd": (27, DESCRIPTOR, REPEATED),
    "manage_cgroups_mode": (34, INT32, OPTIONAL),
    "external": (37, STRING, REPEATED),
    "empty_ns": (38, UINT32, OPTIONAL),
    "join_ns": (39, NAMESPACE, REPEATED),
    "freeze_cgroup": (44, STRING, OPTIONAL),
    "tcp_skip_in_flight": (46, BOOL, OPTIONAL),
    "lazy_pages": (48, BOOL, OPTIONAL),
    "status_fd": (49, INT32, OPTIONAL),
    "orphan_pts_master": (50, BOOL, OPTIONAL),
    "config_file": (51, STRING, OPTIONAL),
    "lsm_profile": (53, STRING, OPTIONAL),
    "lsm_mount_context": (63, STRING, OPTIONAL),
}
REQUEST = {
    "type": (1, INT32, REQUIRED),
    "opts": (2, OPTIONS, OPTIONAL),
    "notify_success": (3, BOOL, OPTIONAL),
    "features": (5, FEATURES, OPTIONAL),
}

RESTORED = {
    "pid": (1, INT32, REQUIRED),
}
NOTICE = {
    "script": (1, STRING, OPTIONAL),
    "pid": (2, INT32, OPTIONAL),
}
RELEASE = {
    "major_number": (1, INT32, REQUIRED),
    "minor_number": (2, INT32, REQUIRED),
    "gitid": (3, STRING, OPTIONAL),
    "sublevel": (4, INT32, OPTIONAL),
}
RESPONSE = {
    "type": (1, INT32, REQUIRED),
    "success": (2, BOOL, REQUIRED),
    "restore": (4, RESTORED, OPTIONAL),
    "notify": (5, NOTICE, OPTIONAL),
    "cr_errno": (7, INT32, OPTIONAL),
    "features": (8, FEATURES, OPTIONAL),
    "cr_errmsg": (9, STRING, OPTIONAL),
    "version": (10, RELEASE, OPTIONAL),
}
