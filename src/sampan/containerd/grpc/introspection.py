"""containerd.services.introspection.v1: what this core consists of, in containerd's vocabulary of plugins."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence

from google.protobuf import empty_pb2

from sampan import errors
from sampan.api.containerd.services.introspection.v1 import introspection_pb2 as api
from sampan.containerd import filters
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.stores import StoreTable
from sampan.oci import platform

# (type, id) of every part that clients may ask for by name; snapshotters are added as this machine offers them.
PLUGINS: tuple[tuple[str, str], ...] = (
    ("io.containerd.content.v1", "content"),
    ("io.containerd.metadata.v1", "sqlite"),
    ("io.containerd.gc.v1", "scheduler"),
    ("io.containerd.differ.v1", "walking"),
    ("io.containerd.event.v1", "exchange"),
    ("io.containerd.lease.v1", "manager"),
    ("io.containerd.runtime.v2", "task"),
    ("io.containerd.sandbox.store.v1", "local"),
    ("io.containerd.streaming.v1", "manager"),
    ("io.containerd.transfer.v1", "local"),
    ("io.containerd.grpc.v1", "containers"),
    ("io.containerd.grpc.v1", "content"),
    ("io.containerd.grpc.v1", "diff"),
    ("io.containerd.grpc.v1", "events"),
    ("io.containerd.grpc.v1", "healthcheck"),
    ("io.containerd.grpc.v1", "images"),
    ("io.containerd.grpc.v1", "introspection"),
    ("io.containerd.grpc.v1", "leases"),
    ("io.containerd.grpc.v1", "namespaces"),
    ("io.containerd.grpc.v1", "sandboxes"),
    ("io.containerd.grpc.v1", "snapshots"),
    ("io.containerd.grpc.v1", "streaming"),
    ("io.containerd.grpc.v1", "tasks"),
    ("io.containerd.grpc.v1", "transfer"),
    ("io.containerd.grpc.v1", "version"),
)
# Those that work for one platform say for which.
_PLATFORM_TYPES = ("io.containerd.snapshotter.v1", "io.containerd.differ.v1", "io.containerd.runtime.v2")


class IntrospectionService:
    descriptor = api.DESCRIPTOR.services_by_name["Introspection"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._uuid = _identity(f"{table.core.root}/uuid")

    async def plugins(self, call: Call, request: api.PluginsRequest) -> api.PluginsResponse:
        wanted = filters.parse(request.filters)
        return api.PluginsResponse(plugins=[one for one in self._plugins() if wanted.matches(_fields(one))])

    async def plugin_info(self, call: Call, request: api.PluginInfoRequest) -> api.PluginInfoResponse:
        """What one plugin says of itself; `options` for a runtime are not looked at: nothing here depends on them."""
        for one in self._plugins():
            if (one.type, one.id) == (request.type, request.id):
                return api.PluginInfoResponse(plugin=one)
        raise errors.NotFound(f"plugin {request.type}.{request.id} not found")

    async def server(self, call: Call, request: empty_pb2.Empty) -> api.ServerResponse:
        pidns = os.stat("/proc/self/ns/pid").st_ino
        return api.ServerResponse(uuid=self._uuid, pid=os.getpid(), pidns=pidns)

    def _plugins(self) -> Iterator[api.Plugin]:
        own = fields.platform_message(platform.host())
        snapshotters = sorted(self._table.core.kinds.names)
        for kind, name in (
            *PLUGINS[:2],
            *(("io.containerd.snapshotter.v1", one) for one in snapshotters),
            *PLUGINS[2:],
        ):
            plugin = api.Plugin(type=kind, id=name)
            if kind in _PLATFORM_TYPES:
                plugin.platforms.append(own)
            if kind == "io.containerd.snapshotter.v1":
                plugin.exports["root"] = f"{self._table.core.root}/snapshots/{name}"
            elif kind == "io.containerd.content.v1":
                plugin.exports["root"] = f"{self._table.core.root}/content"
            yield plugin


def _fields(plugin: api.Plugin) -> filters.Fields:
    def value(path: Sequence[str]) -> str | None:
        return {"type": plugin.type, "id": plugin.id}.get(path[0]) or None

    return value


def _identity(path: str) -> str:
    """The name of this core for good, made once."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        made = str(uuid.uuid4())
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(made)
    os.rename(f"{path}.new", path)
    return made
