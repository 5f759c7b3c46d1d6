"""The local volume driver: `<root>/volumes/NAME/_data`, one row of engine.db each.

All records are also in memory, which is what readers use, so that `mount` and `populate` may run in a thread. A
volume with options (type, o, device) is mounted over its `_data` when a container first needs it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from sampan.api.docker import volumes as documents
from sampan.api.docker.volumes import UsageData
from sampan.engine import timestamps
from sampan.engine.filters import Filters
from sampan.engine.services import ContainerUsage, Events, Volume
from sampan.engine.volumes import copyup, mounting, subpaths
from sampan.errors import Conflict, Error, InvalidArgument, NotFound
from sampan.linux.trees import remove_tree

log = logging.getLogger("sampan.volumes")

DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
NAME_PATTERN = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

_NAME = re.compile(NAME_PATTERN + r"+\Z")
_SCHEMA = """
create table if not exists volumes (
    name text primary key,
    driver text not null,
    created_at text not null,
    labels text not null,
    options text not null,
    anonymous integer not null
) without rowid
"""


class LocalVolumes:
    """engine.services.Volumes, and what the Volume tag needs besides."""

    def __init__(self, connection: sqlite3.Connection, root: str, *, events: Events, usage: ContainerUsage) -> None:
        self._connection = connection
        self._directory = f"{root}/volumes"
        self._events = events
        self._usage = usage
        os.makedirs(self._directory, mode=0o701, exist_ok=True)
        with connection:
            connection.execute(_SCHEMA)
        rows = connection.execute("select name, driver, created_at, labels, options, anonymous from volumes")
        self._volumes = {row[0]: self._from_row(row) for row in rows}

    def _from_row(self, row: Sequence[object]) -> Volume:
        name, driver, created_at, labels, chosen, anonymous = row
        return Volume(
            name=str(name),
            driver=str(driver),
            mountpoint=self._data(str(name)),
            created_at=str(created_at),
            labels=msgspec.json.decode(str(labels), type=dict[str, str]),
            options=msgspec.json.decode(str(chosen), type=dict[str, str]),
            anonymous=bool(anonymous),
        )

    def _data(self, name: str) -> str:
        return f"{self._directory}/{name}/_data"

    def get(self, name: str) -> Volume:
        """NotFound `get NAME: no such volume`."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def create(
        self,
        name: str = "",
        driver: str = DRIVER,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """The existing one when the name is there; "" makes an anonymous one. InvalidArgument, NotFound (driver)."""
        anonymous = not name
        name = name or secrets.token_hex(32)
        if name not in self._volumes:
            check_name(name)
        if driver not in ("", DRIVER):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        if name in self._volumes:
            return self._volumes[name]
        mounting.check(name, options or {})
        marks = dict(labels or {})
        if anonymous:
            marks[ANONYMOUS_LABEL] = ""
        volume = Volume(name, DRIVER, self._data(name), timestamps.now(), marks, dict(options or {}), anonymous)
        self._insert(volume)
        self._events.publish("volume", "create", name, {"driver": DRIVER})
        return volume

    def _insert(self, volume: Volume) -> None:
        # The directory first: a row without one would be a volume that cannot be mounted.
        try:
            os.makedirs(volume.mountpoint, mode=0o755, exist_ok=True)
            os.chmod(os.path.dirname(volume.mountpoint), 0o701)
            self._write(
                "insert into volumes values (?, ?, ?, ?, ?, ?)",
                volume.name,
                volume.driver,
                volume.created_at,
                msgspec.json.encode(volume.labels).decode(),
                msgspec.json.encode(volume.options).decode(),
                volume.anonymous,
            )
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(os.path.dirname(volume.mountpoint), ignore_errors=True)
            raise Error(f"create {volume.name}: {error}") from error
        self._volumes[volume.name] = volume

    def list(self, filters: Filters | None = None) -> Sequence[Volume]:
        """Sorted by name. Filters: dangling, driver, label, name."""
        filters = filters or Filters()
        dangling = filters.boolean("dangling")
        return [
            volume
            for _, volume in sorted(self._volumes.items())
            if filters.search("name", volume.name)
            and filters.exact("driver", volume.driver)
            and filters.labels(volume.labels)
            and ("dangling" not in filters or dangling == (not self._usage.using_volume(volume.name)))
        ]

    def remove(self, name: str, force: bool = False) -> None:
        """NotFound unless `force`; Conflict `remove NAME: volume is in use - [IDS]`."""
        if name not in self._volumes and force:
            return
        self.get(name)
        users = self._usage.using_volume(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        self._discard(name)
        self._events.publish("volume", "destroy", name, {"driver": DRIVER})

    def _discard(self, name: str) -> None:
        data = self._data(name)
        try:
            mounting.unmount(data)
            if os.path.ismount(data):
                # Deleting through somebody's mount would delete what is not ours.
                raise Error(f"remove {name}: {data} is still mounted")
            remove_tree(os.path.dirname(data), "_data")
            os.rmdir(os.path.dirname(data))
        except FileNotFoundError:
            pass  # somebody removed the directory; the row goes all the same
        except OSError as error:
            raise Error(f"remove {name}: {error}") from error
        self._write("delete from volumes where name = ?", name)
        del self._volumes[name]

    def _write(self, statement: str, *values: object) -> None:
        """One statement: a transaction of its own, or part of the one that the caller has open."""
        if self._connection.in_transaction:
            self._connection.execute(statement, values)
        else:
            with self._connection:
                self._connection.execute(statement, values)

    def prune(self, filters: Filters, everything: bool = False) -> tuple[Sequence[str], int]:
        """Remove unused volumes, anonymous ones only unless `everything`; (names, bytes freed).

        Filters: label, label!, all."""
        removed, freed = [], 0
        for volume in self.list():
            chosen = everything or filters.boolean("all") or volume.anonymous
            if not chosen or not filters.labels(volume.labels) or not filters.without_labels(volume.labels):
                continue
            if self._usage.using_volume(volume.name):
                continue
            size = 0 if volume.options else directory_size(volume.mountpoint)
            self.remove(volume.name)
            removed.append(volume.name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    def disk_usage(self) -> Sequence[documents.Volume]:
        """Every volume with its size and users, for /system/df. Walks the disk: call it in a thread."""
        return [
            document(volume, UsageData(directory_size(volume.mountpoint), len(self._usage.using_volume(volume.name))))
            for volume in self.list()
        ]

    def mount(self, name: str) -> str:
        """The directory to bind; mounted first when the options ask for it. NotFound; Error when mount(2) refuses."""
        volume = self.get(name)
        if not os.path.isdir(volume.mountpoint):
            os.makedirs(volume.mountpoint, mode=0o755, exist_ok=True)
        if volume.options:
            mounting.mount(volume.mountpoint, volume.options)
        return volume.mountpoint

    def bind_below(self, name: str, subpath: str, target: str) -> None:
        """`engine.services.Volumes`."""
        subpaths.bind(self.get(name).mountpoint, subpath, target)

    def release(self, directory: str) -> None:
        """`engine.services.Volumes`."""
        try:
            subpaths.release(directory)
        except OSError as error:
            log.warning("%s: %s", directory, error)

    def unmount(self, name: str) -> None:
        """Undo `mount` when no running container uses it any more. What cannot be undone is logged, not raised."""
        volume = self._volumes.get(name)
        if volume is not None and volume.options:
            try:
                mounting.unmount(volume.mountpoint)
            except OSError as error:
                log.warning("volume %s: %s", name, error)

    def populate(self, name: str, source_fd: int) -> None:
        """Copy what is in the directory `source_fd` (the image's, at the mount point) into the volume if it is empty.

        The volume's root takes over the directory's own mode and owner. OSError."""
        copyup.copy_if_empty(source_fd, self.get(name).mountpoint)


def check_name(name: str) -> None:
    """InvalidArgument in Docker's words for a name the local driver refuses."""
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.match(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "{NAME_PATTERN}" '
            "are allowed. If you intended to pass a host directory, use absolute path"
        )


def document(volume: Volume, usage: UsageData | None = None) -> documents.Volume:
    """The API's document; `usage` for /system/df."""
    return documents.Volume(
        CreatedAt=volume.created_at,
        Driver=volume.driver,
        Labels=dict(volume.labels) or None,
        Mountpoint=volume.mountpoint,
        Name=volume.name,
        Options=dict(volume.options) or None,
        UsageData=msgspec.UNSET if usage is None else usage,
    )


def directory_size(path: str) -> int:
    """Bytes of the regular files under `path`, a file with several names counted once, mounts not entered.

    What goes meanwhile, or is deeper than a path can say, is not counted: its user must not stop the counting."""
    total, seen = 0, set()
    try:
        device = os.stat(path).st_dev
    except FileNotFoundError:
        return 0
    waiting = [path]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if status.st_dev == device:
                        waiting.append(entry.path)
                elif (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total
