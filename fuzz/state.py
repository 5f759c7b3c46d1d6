"""A state.json that somebody else has written over: told apart from a container's, or looked at without harm."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from random import Random
from typing import Any

from fuzz.documents import document
from fuzz.mutation import bytes_of_json as mutate
from sampan import errors
from sampan.runtime import state

_SPEC: Any = document("ctr")
SEEDS = [
    json.dumps(
        state.new("boat", _SPEC, "/bundle", "/bundle/rootfs", {"memory": "/sys/fs/cgroup/memory/x"}, 1, 7)
    ).encode(),
]
ERRORS = (errors.DataLoss, errors.NotFound)

__all__ = ["ERRORS", "SEEDS", "feed", "mutate"]


def feed(data: bytes, random: Random) -> None:
    """As `state`, `list` and the hooks see it."""
    root = tempfile.mkdtemp(prefix="sampan-fuzz-")
    try:
        os.mkdir(f"{root}/boat")
        with open(f"{root}/boat/state.json", "wb") as file:
            file.write(data)
        found = state.load(root, "boat")
        json.dumps(state.described(root, found))
        json.dumps(state.oci_state(found, "stopped"))
    finally:
        shutil.rmtree(root)
