"""Inside a rootfs only what is below a descriptor is touched: a path would be walked by the attacker's symlinks.

Incidents: CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579. What must
start at a path goes through `linux.paths` (openat2 with RESOLVE_IN_ROOT); what is there already has a `dir_fd`.
"""

import ast
from pathlib import Path

STEPS = Path(__file__).parents[2] / "src" / "sampan" / "runtime" / "steps"

BY_PATH = {
    "open", "stat", "lstat", "mkdir", "makedirs", "mkfifo", "mknod", "symlink", "link", "unlink", "remove", "rmdir",
    "rename", "replace", "readlink", "listdir", "scandir", "walk", "access", "chmod", "chown", "lchown", "chdir",
    "chroot", "truncate", "utime", "setxattr", "getxattr", "listxattr", "statvfs", "exists", "isdir",
    "isfile", "realpath",
}  # fmt: skip
# (file, call, first argument) that need no descriptor, and why.
ALLOWED = {
    ("copying.py", "listdir", "origin"): "a descriptor",
    ("copying.py", "chmod", "above"): "a descriptor",
    ("identity.py", "stat", "path"): "the program, as the user would find it, when all privileges are gone",
    ("identity.py", "access", "path"): "the same",
    ("joining.py", "readlink", "f'/proc/self/fd/{fd}'"): "the name of a cgroup, for an error, before the root changes",
    ("rootfs.py", "open", "'/'"): "this process's own root",
    ("joining.py", "open", "'/'"): "this process's own root",
    ("rootfs.py", "chdir", "'/'"): "this process's own root",
    ("rootfs.py", "chroot", "'.'"): "where fchdir has led",
}


def calls(path: Path) -> list[tuple[str, str, str]]:
    """(file, function of os or os.path, first argument) of the calls without a dir_fd."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if ast.unparse(node.func.value) not in ("os", "os.path") or node.func.attr not in BY_PATH:
            continue
        if not any(keyword.arg == "dir_fd" for keyword in node.keywords):
            found.append((path.name, node.func.attr, ast.unparse(node.args[0])))
    return found


def test_no_step_walks_a_path_by_itself() -> None:
    found = {call for path in STEPS.glob("*.py") for call in calls(path)}
    assert found - set(ALLOWED) == set()


def test_every_exception_is_still_needed() -> None:
    assert set(ALLOWED) <= {call for path in STEPS.glob("*.py") for call in calls(path)}


def test_no_step_opens_a_file_with_python_s_own_open() -> None:
    found = [
        path.name
        for path in STEPS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert found == []
