"""Everything together: containerd's API over an open core.

server = await serve_grpc(core, "/run/sampan/containerd.sock", state="/run/sampan")
...
await server.close()
"""

from __future__ import annotations

from sampan.containerd.core import ContainerCore
from sampan.containerd.grpc.containers import ContainersService
from sampan.containerd.grpc.content import ContentService
from sampan.containerd.grpc.diff import DiffService
from sampan.containerd.grpc.events import FORWARD, EventsService
from sampan.containerd.grpc.health import HealthService
from sampan.containerd.grpc.images import ImagesService
from sampan.containerd.grpc.introspection import IntrospectionService
from sampan.containerd.grpc.leases import LeasesService
from sampan.containerd.grpc.mounts import MountsService
from sampan.containerd.grpc.namespaces import NamespacesService
from sampan.containerd.grpc.sandboxes import SandboxControllerService, SandboxStoreService
from sampan.containerd.grpc.server import GrpcServer, Service, listen
from sampan.containerd.grpc.snapshots import SnapshotsService
from sampan.containerd.grpc.streaming import StreamingService
from sampan.containerd.grpc.tasks import TasksService
from sampan.containerd.grpc.transfer import TransferService
from sampan.containerd.grpc.version import VersionService
from sampan.containerd.shims.connection import listen as listen_ttrpc
from sampan.containerd.stores import StoreTable


async def serve_grpc(core: ContainerCore, address: str, *, state: str) -> GrpcServer:
    """Serve containerd's API over `core` on the unix socket `address`; `state` is where bundles of tasks are.

    Unavailable when another process serves there. The core stays its opener's to close, after the server."""
    table = StoreTable(core)
    events = EventsService(table.events)
    tasks = TasksService(table, state, address.removeprefix("unix://"))
    # Before shims are found again: those that had nobody to tell their events try it again now.
    from_shims = await listen_ttrpc(f"{address.removeprefix('unix://')}.ttrpc", {FORWARD: events.forward_from_shim})
    await tasks.recover()

    streaming = StreamingService()
    transfer = TransferService(table, streaming)

    diff = DiffService(table)

    async def close() -> None:
        await transfer.close()
        await diff.close()
        await tasks.close()
        await from_shims.close()
        table.close()

    services: list[Service] = [
        VersionService(),
        HealthService(),
        IntrospectionService(table),
        NamespacesService(table),
        LeasesService(table),
        ContentService(table),
        ImagesService(table),
        ContainersService(table),
        SnapshotsService(table),
        diff,
        tasks,
        events,
        streaming,
        transfer,
        SandboxStoreService(table),
        SandboxControllerService(),
        MountsService(),
    ]
    return await listen(services, address, closing=[close])
