"""Documents of the Volume tag (Engine API 1.51)."""

from __future__ import annotations

import msgspec


class UsageData(msgspec.Struct):
    """Only in answers of /system/df: bytes on disk and containers that mount the volume."""

    Size: int = -1
    RefCount: int = -1


class Volume(msgspec.Struct):
    CreatedAt: str
    Driver: str
    Labels: dict[str, str] | None
    Mountpoint: str
    Name: str
    Options: dict[str, str] | None
    Scope: str = "local"
    UsageData: UsageData | msgspec.UnsetType = msgspec.UNSET


class VolumeList(msgspec.Struct):
    Volumes: list[Volume]
    Warnings: list[str] | None = None


class VolumeCreateOptions(msgspec.Struct):
    Name: str | None = ""
    Driver: str | None = ""
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class VolumesPruned(msgspec.Struct):
    """VolumePruneResponse; the list is null when nothing was removed."""

    VolumesDeleted: list[str] | None
    SpaceReclaimed: int
