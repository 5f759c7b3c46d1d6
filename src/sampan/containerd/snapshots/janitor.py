"""Deleting trees in the background: a removed snapshot is renamed into `trash/`, and one thread empties that.

The rename is what the caller waits for; the files, tens of thousands perhaps, go later. After a crash the trash is
still there and is emptied on the next start.
"""

from __future__ import annotations

import os
import queue
import stat
import threading

# Below this depth a directory is moved up into the trash before it is emptied, so that neither open descriptors
# nor recursion grow with what a container made.
_DEPTH = 32

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Janitor:
    """Owns `directory`/trash, a directory on the file system of what is thrown away."""

    def __init__(self, directory: str) -> None:
        self._trash = f"{directory}/trash"
        os.makedirs(self._trash, mode=0o700, exist_ok=True)
        self._work: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        if os.listdir(self._trash):
            self._wake()

    def discard(self, path: str) -> None:
        """Take `path` away now, delete it later. What does not exist is fine."""
        try:
            os.rename(path, f"{self._trash}/{os.path.basename(path)}")
        except FileNotFoundError:
            return
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="snapshot-janitor", daemon=True)
                self._thread.start()
        self._work.put(True)

    def _run(self) -> None:
        while self._work.get() and not self._closed:
            for name in os.listdir(self._trash):
                if self._closed:
                    return
                try:
                    empty(self._trash, name)
                except OSError:
                    # Busy (still mounted somewhere) or an input/output error: the next start tries again.
                    continue

    def close(self) -> None:
        """Stop after the file in hand; the rest stays in the trash for the next start."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._work.put(False)
            thread.join()


def empty(trash: str, name: str) -> None:
    """Delete `trash`/`name`, of any depth, following no symlink and entering no mount. Errors: OSError."""
    trash_fd = os.open(trash, _DIRECTORY)
    try:
        pending = [name]
        while pending:
            pending += _remove(trash_fd, trash_fd, pending.pop(), 0)
    finally:
        os.close(trash_fd)


def _remove(trash_fd: int, parent_fd: int, name: str, depth: int) -> list[str]:
    """Delete one entry; the names in the trash of directories that were too deep and were moved there instead."""
    try:
        os.unlink(name, dir_fd=parent_fd)
        return []
    except (IsADirectoryError, PermissionError) as error:
        # Linux says EISDIR for a directory; EPERM also stands for an immutable file, which stays an error.
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise error
    except FileNotFoundError:
        return []
    moved: list[str] = []
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        for child in os.listdir(fd):
            if depth >= _DEPTH and stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                status = os.stat(child, dir_fd=fd, follow_symlinks=False)
                fresh = f"deep-{status.st_dev}-{status.st_ino}"
                os.rename(child, fresh, src_dir_fd=fd, dst_dir_fd=trash_fd)
                moved.append(fresh)
            else:
                moved += _remove(trash_fd, fd, child, depth + 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)
    return moved
