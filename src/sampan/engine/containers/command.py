"""A container's configuration: what the client gave over what the image says. Pure. Docker's merge rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sampan.api.docker.containers import Config, HealthConfig
from sampan.errors import InvalidArgument


def merge(config: Config, image: Mapping[str, Any]) -> Config:
    """`image` is the `config` object of the OCI image config (Docker's own extensions included)."""
    changes: dict[str, Any] = {}
    if not config.user:
        changes["user"] = image.get("User") or ""
    if not config.working_dir:
        changes["working_dir"] = image.get("WorkingDir") or ""
    if not config.stop_signal:
        changes["stop_signal"] = image.get("StopSignal") or ""
    if not config.shell:
        changes["shell"] = list(image.get("Shell") or ())
    given = {entry.partition("=")[0] for entry in config.env}
    inherited = [entry for entry in image.get("Env") or () if entry.partition("=")[0] not in given]
    changes["env"] = [*config.env, *inherited]
    changes["labels"] = {**(image.get("Labels") or {}), **config.labels}
    changes["exposed_ports"] = {**_keys(image.get("ExposedPorts")), **config.exposed_ports}
    changes["volumes"] = {**_keys(image.get("Volumes")), **config.volumes}
    entrypoint, cmd = words(config.entrypoint), words(config.cmd)
    if not entrypoint:
        # A given entrypoint also drops the image's arguments; [""] is how a client asks for none at all.
        if not cmd:
            cmd = list(image.get("Cmd") or ()) or None
        if entrypoint is None:
            entrypoint = list(image.get("Entrypoint") or ()) or None
    changes["entrypoint"], changes["cmd"] = entrypoint, cmd
    changes["healthcheck"] = _healthcheck(config.healthcheck, image.get("Healthcheck"))
    return msgspec.structs.replace(config, **changes)


def resolve(config: Config) -> tuple[str, list[str]]:
    """(path, arguments). InvalidArgument `no command specified`; an empty word is one that no program has."""
    entrypoint, cmd = words(config.entrypoint) or [], words(config.cmd) or []
    if entrypoint == [""]:
        entrypoint = []
    line = [*entrypoint, *cmd]
    if not line:
        raise InvalidArgument("no command specified")
    return line[0], line[1:]


def words(value: list[str] | str | None) -> list[str] | None:
    """Older clients send one string for one word."""
    return [value] if isinstance(value, str) else value


def _keys(value: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {key: {} for key in value or {}}


def _healthcheck(given: HealthConfig | None, image: Mapping[str, Any] | None) -> HealthConfig | None:
    if not image:
        return given
    try:
        inherited = msgspec.convert(image, HealthConfig)
    except msgspec.ValidationError:
        # An image's health check is advice: a malformed one does not keep the image from running.
        return given
    if given is None:
        return inherited
    return HealthConfig(
        test=given.test or inherited.test,
        interval=given.interval or inherited.interval,
        timeout=given.timeout or inherited.timeout,
        start_period=given.start_period or inherited.start_period,
        start_interval=given.start_interval or inherited.start_interval,
        retries=given.retries or inherited.retries,
    )
