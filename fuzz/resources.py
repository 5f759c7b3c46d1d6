"""The document of `update --resources`, and what becomes of it on cgroup v2."""

from __future__ import annotations

import json
from random import Random

from fuzz.documents import NAMES, document
from fuzz.mutation import bytes_of_json as mutate
from sampan import errors
from sampan.oci import spec
from sampan.runtime import document as documents
from sampan.runtime import update
from sampan.runtime.cgroup import devices, v2

SEEDS = [json.dumps(document(name)["linux"]["resources"]).encode() for name in NAMES]
ERRORS = (errors.InvalidArgument, errors.DataLoss, errors.Unimplemented)

__all__ = ["ERRORS", "SEEDS", "feed", "mutate"]


def feed(data: bytes, random: Random) -> None:
    """Checked, merged with old ones, and turned into what is written to which file."""
    found = documents.parse(data.decode("utf-8", "replace"), "resources")
    spec.check(found, spec.RESOURCES, "linux.resources")
    merged = update.merged(document("docker")["linux"]["resources"], found)
    for name, text, field in v2.writes(merged):
        assert "/" not in name and isinstance(text, str) and field.startswith("linux.resources"), (name, text, field)
    devices.v1_writes(merged.get("devices") or [])
    devices.bpf_program(merged.get("devices") or [])
