"""grpc.health.v1: dockerd and test suites wait for SERVING."""

from __future__ import annotations

from sampan.api.containerd.grpc.health.v1 import health_pb2
from sampan.containerd.grpc.server import Call


class HealthService:
    descriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]

    async def check(self, call: Call, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
