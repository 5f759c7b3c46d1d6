"""grpc.health.v1: dockerd and test suites wait for SERVING."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpclib import GRPCError, Status

from sampan.api.containerd.grpc.health.v1 import health_pb2
from sampan.containerd.grpc.server import Call

_SERVING = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
_UNKNOWN = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


class HealthService:
    """Of the server as a whole ("" as service), which serves as long as it answers."""

    descriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]

    async def check(self, call: Call, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        if request.service:
            raise GRPCError(Status.NOT_FOUND, "unknown service")
        return _SERVING

    async def watch(
        self, call: Call, request: health_pb2.HealthCheckRequest
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status, and every change of it, of which there is none before the connection ends."""
        yield _UNKNOWN if request.service else _SERVING
        await asyncio.Event().wait()
