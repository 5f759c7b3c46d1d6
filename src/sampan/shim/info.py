"""`-info`: what this runtime is and offers, for containerd's introspection (PluginInfo) and for CRI."""

from __future__ import annotations

import json

from sampan import VERSION
from sampan.runtime.features import document as features
from sampan.runtime.host import host_facts
from sampan.shim.messages import RUNTIME_INFO
from sampan.wire import protobuf

FEATURES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def document() -> bytes:
    """A containerd.types.RuntimeInfo."""
    text = json.dumps(features(host_facts())).encode()
    return protobuf.encode(
        RUNTIME_INFO,
        {
            "name": "io.containerd.sampan.v2",
            "version": {"version": VERSION},
            "features": {"type_url": FEATURES_TYPE, "value": text},
        },
    )
