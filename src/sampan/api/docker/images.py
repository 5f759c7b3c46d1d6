"""Documents of the Image tag (Engine API 1.51; fields of older versions are set only when those are asked for)."""

from __future__ import annotations

from typing import Any

import msgspec

from sampan.api.docker.errors import ErrorDetail

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType


class ImageSummary(msgspec.Struct):
    """`SharedSize` and `Containers` are -1 unless they were asked for; `VirtualSize` ended with API 1.43."""

    Containers: int
    Created: int
    Id: str
    Labels: dict[str, str] | None
    ParentId: str
    RepoDigests: list[str]
    RepoTags: list[str]
    SharedSize: int
    Size: int
    VirtualSize: int | Unset = UNSET


class GraphDriver(msgspec.Struct):
    Data: dict[str, str] | None
    Name: str


class RootFS(msgspec.Struct):
    Type: str
    Layers: list[str]


class Metadata(msgspec.Struct):
    LastTagTime: str


class ImageInspect(msgspec.Struct):
    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Parent: str
    Comment: str
    DockerVersion: str
    Author: str
    Architecture: str
    Os: str
    Size: int
    GraphDriver: GraphDriver
    RootFS: RootFS
    Metadata: Metadata
    Config: dict[str, Any] | None
    Created: str | Unset = UNSET
    Variant: str | Unset = UNSET
    OsVersion: str | Unset = UNSET
    VirtualSize: int | Unset = UNSET
    Container: str | Unset = UNSET
    ContainerConfig: dict[str, Any] | Unset | None = UNSET


class HistoryItem(msgspec.Struct):
    Comment: str
    Created: int
    CreatedBy: str
    Id: str
    Size: int
    Tags: list[str] | None


class ImageDelete(msgspec.Struct, omit_defaults=True):
    """ImageDeleteResponseItem: one of the two."""

    Untagged: str = ""
    Deleted: str = ""


class ImagesPruned(msgspec.Struct):
    ImagesDeleted: list[ImageDelete] | None
    SpaceReclaimed: int


class ProgressDetail(msgspec.Struct, omit_defaults=True):
    current: int = 0
    total: int = 0


class ProgressLine(msgspec.Struct, omit_defaults=True):
    """CreateImageInfo, PushImageInfo: one line of a pull, push, load or import."""

    stream: str = ""
    status: str = ""
    progressDetail: ProgressDetail | Unset = UNSET
    progress: str = ""
    id: str = ""
    errorDetail: ErrorDetail | Unset = UNSET
    error: str = ""
    aux: Any = None


class Descriptor(msgspec.Struct, omit_defaults=True):
    """OCIDescriptor."""

    mediaType: str
    digest: str
    size: int


class Platform(msgspec.Struct, omit_defaults=True):
    """OCIPlatform."""

    architecture: str = ""
    os: str = ""
    variant: str = ""


class DistributionInspect(msgspec.Struct):
    Descriptor: Descriptor
    Platforms: list[Platform]
