"""`python -I -S .../sampan/keeper/__main__.py DIRECTORY READY_FD`: become a keeper, detached from who started it.

DIRECTORY is `<state>/keeper/<n>`; a line is written to READY_FD once the socket answers, and nothing when it never will
(the reason is on stderr).
"""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> None:
    """Start up in the order of what must not come later: seal, detach, imports, serve."""
    from sampan.runtime import seal

    if not seal.is_sealed():
        seal.reexec("sampan.keeper.__main__", arguments)
    directory, ready_fd = arguments[0], int(arguments[1])
    # Two generations away from sampand, which need not collect a keeper that dies. Safe because there is one thread.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o022)

    from sampan.keeper import serve
    from sampan.keeper.library import Library

    def ready() -> None:
        os.write(ready_fd, b"ready\n")
        os.close(ready_fd)

    serve.run(directory, Library(), ready)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    main(sys.argv[1:])
