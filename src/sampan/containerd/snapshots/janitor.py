"""Deleting trees in the background: a removed snapshot is renamed into `trash/`, and one thread empties that.

The rename is what the caller waits for; the files, tens of thousands perhaps, go later. After a crash the trash is
still there and is emptied on the next start.
"""

from __future__ import annotations

import os
import queue
import threading

from sampan.linux.trees import remove_tree


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
                    remove_tree(self._trash, name)
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
