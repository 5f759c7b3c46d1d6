"""containerd.services.version.v1: who answers here."""

from __future__ import annotations

from typing import Any

from sampan import VERSION
from sampan.api.containerd.services.version.v1 import version_pb2
from sampan.containerd.grpc.server import Call


class VersionService:
    descriptor = version_pb2.DESCRIPTOR.services_by_name["Version"]

    async def version(self, call: Call, request: Any) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version=VERSION, revision="sampan")
