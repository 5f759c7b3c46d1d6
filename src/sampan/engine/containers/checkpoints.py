"""Checkpoints of a container: directories of CRIU's images, by default in the container's own directory.

create writes one from a running container; `start` with its name goes on from there. Rules and words are dockerd's.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil

from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.errors import Error

_CHARACTERS = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(f"{_CHARACTERS}+")


async def create(room: Room, reference: str, name: str, *, directory: str = "", leave: bool = False) -> None:
    """Save the container to `directory`/`name`; with `leave` it goes on, otherwise it has ended when this returns.

    NotFound; Error (HTTP 500, as dockerd): it does not run, a bad or a taken name, CRIU's refusal."""
    record = room.store.get(reference)
    live = room.live.of(record.id)
    async with live.lock:
        record = room.store.get(record.id)
        if not record.has_task:
            raise Error(f"Container {reference} not running")
        if not _NAME.fullmatch(name):
            raise Error(f"Invalid checkpoint ID ({name}), only {_CHARACTERS} are allowed")
        path = f"{_folder(room, record, directory)}/{name}"
        try:
            _make(path, f"checkpoint with name {name} already exists for container {reference}")
        except (Error, OSError) as error:
            raise Error(f"cannot checkpoint container {reference}: {_words(error, 'mkdir')}") from error
        flags = ["--work-path", f"{room.bundle(record.id)}/criu-work"]
        try:
            await room.core.tasks.checkpoint(record.id, path, flags=[*flags, "--leave-running"] if leave else flags)
        except Error as error:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            raise Error(f"Cannot checkpoint container {reference}: {error}") from error
        if not leave:
            # Its processes have ended; who starts it next must not be told that it still runs.
            await live.exited.wait()
        room.publish(record, "checkpoint")


def names(room: Room, reference: str, directory: str = "") -> list[str]:
    """The checkpoints in `directory`, by default the container's own. NotFound; Error when it cannot be read."""
    record = room.store.get(reference)
    try:
        with os.scandir(_folder(room, record, directory)) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        if directory:
            raise Error(_missing("", reference)) from None
        return []
    except OSError as error:
        raise Error(_words(error, "open")) from error


async def remove(room: Room, reference: str, name: str, directory: str = "") -> None:
    """NotFound; Error when there is no such checkpoint."""
    record = room.store.get(reference)
    path = existing(room, record, reference, name, directory)
    try:
        await asyncio.to_thread(shutil.rmtree, path)
    except OSError as error:
        raise Error(_words(error, "unlinkat")) from error


def existing(room: Room, record: Container, reference: str, name: str, directory: str = "") -> str:
    """The directory of a checkpoint that is there. Error in dockerd's words; `reference` is how it was asked for."""
    path = f"{_folder(room, record, directory)}/{name}"
    # No checkpoint has a name like "..", whose path would lead to what is none.
    if not _NAME.fullmatch(name) or not os.path.exists(path):
        raise Error(_missing(name, reference))
    if not os.path.isdir(path):
        raise Error(f"{path} exists and is not a directory")
    return path


def _missing(name: str, reference: str) -> str:
    return f"checkpoint {name} does not exist for container {reference}"


def _folder(room: Room, record: Container, directory: str) -> str:
    return os.path.abspath(directory) if directory else f"{room.directory(record.id)}/checkpoints"


def _make(path: str, taken: str) -> None:
    """The new directory, only for root: memory is no less secret in a file. OSError; Error when it is there."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        raise Error(taken if os.path.isdir(path) else f"{path} exists and is not a directory") from None


def _words(error: Error | OSError, verb: str) -> str:
    if isinstance(error, Error):
        return str(error)
    return f"{verb} {error.filename}: {(error.strerror or str(error)).lower()}"
