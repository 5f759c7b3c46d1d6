"""containerd.services.mounts.v1 (containerd 2.2): mounts that the daemon would make for its clients.

None is offered: what snapshots answer with can be mounted by mount(2) alone, so each call is Unimplemented by its name,
which clients take as "mount it yourself".
"""

from __future__ import annotations

from sampan.api.containerd.services.mounts.v1 import mounts_pb2 as api


class MountsService:
    descriptor = api.DESCRIPTOR.services_by_name["Mounts"]
