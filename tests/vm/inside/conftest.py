"""What is tested inside the small machine alone: only there is systemd process 1."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("SMALL_MACHINE") else ["test_*.py"]
