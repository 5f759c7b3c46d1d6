"""The Dockerfile instructions that `docker commit` and `docker import` apply to a configuration (`--change`). Pure.

Source: Dockerfile reference; Docker Engine API 1.51, ImageCommit `changes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from sampan.api.docker.containers import Config, HealthConfig
from sampan.engine.timestamps import duration
from sampan.errors import InvalidArgument

_SHELL = ["/bin/sh", "-c"]
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
_QUOTED = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""")


def apply(config: Config, changes: Sequence[str]) -> Config:
    """`config` after the instructions, one or more lines each. InvalidArgument in Docker's words."""
    for line in lines(changes):
        name, _, rest = line.partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise InvalidArgument(f"{name.lower()} is not a valid change command")
        if not rest.strip():
            raise InvalidArgument(f"{name.upper()} requires at least one argument")
        config = instruction(config, rest.strip())
    return config


def lines(changes: Sequence[str]) -> Iterator[str]:
    """The instructions one by one: comments and empty lines left out, lines that end in a backslash joined."""
    text = re.sub(r"\\[ \t]*\n", "", "\n".join(changes))
    for line in text.splitlines():
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield stripped


def words(text: str) -> list[str]:
    """Split at blanks, quotes taken away."""
    found, rest = [], text.strip()
    while rest:
        word = _WORD.match(rest)
        if not word:
            raise InvalidArgument(f"unexpected end of statement while looking for matching quote: {text}")
        found.append(_QUOTED.sub(_unquoted, word[0]))
        rest = rest[word.end() :].lstrip()
    return found


def _unquoted(match: re.Match[str]) -> str:
    escaped, double, single = match.groups()
    if escaped is not None:
        return escaped
    return re.sub(r"\\(.)", r"\1", double) if double is not None else str(single)


def pairs(instruction: str, text: str) -> dict[str, str]:
    """`K=V K2="V 2"`, or the old form `K V of several words`. InvalidArgument."""
    found = words(text)
    if "=" not in found[0]:
        key, _, value = text.partition(" ")
        if not value:
            raise InvalidArgument(f"{instruction} must have two arguments")
        return {key: value.strip()}
    if any("=" not in word for word in found):
        wrong = next(word for word in found if "=" not in word)
        raise InvalidArgument(f"Syntax error - can't find = in {json.dumps(wrong)}. Must be of the form: name=value")
    return {word.partition("=")[0]: word.partition("=")[2] for word in found}


def json_words(text: str) -> list[str] | None:
    """The JSON form of an instruction; None for any other."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _command(config: Config, text: str) -> list[str]:
    form = json_words(text)
    return form if form is not None else [*(config.shell or _SHELL), text]


def _with(config: Config, **changed: Any) -> Config:
    return msgspec.structs.replace(config, **changed)


def _entrypoint(config: Config, text: str) -> Config:
    return _with(config, entrypoint=_command(config, text))


def _env(config: Config, text: str) -> Config:
    given = pairs("ENV", text)
    kept = [entry for entry in config.env if entry.partition("=")[0] not in given]
    return _with(config, env=[*kept, *(f"{key}={value}" for key, value in given.items())])


def _expose(config: Config, text: str) -> Config:
    ports: dict[str, dict[str, Any]] = dict(config.exposed_ports)
    for word in words(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", word.lower())
        if not match or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65536:
            raise InvalidArgument(f"invalid containerPort: {word}")
        for port in range(int(match[1]), int(match[2] or match[1]) + 1):
            ports[f"{port}/{match[3] or 'tcp'}"] = {}
    return _with(config, exposed_ports=ports)


def _volume(config: Config, text: str) -> Config:
    form = json_words(text)
    return _with(
        config, volumes={**config.volumes, **{path: {} for path in (form if form is not None else words(text))}}
    )


def _workdir(config: Config, text: str) -> Config:
    (path, *_) = words(text)
    if not path.startswith("/"):
        path = f"{config.working_dir or '/'}/{path}"
    return _with(config, working_dir=re.sub(r"/+", "/", path).rstrip("/") or "/")


def _onbuild(config: Config, text: str) -> Config:
    first = text.split()[0].upper()
    if first == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if first in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{first} isn't allowed as an ONBUILD trigger")
    return _with(config, on_build=[*config.on_build, text])


def _healthcheck(config: Config, text: str) -> Config:
    options: dict[str, Any] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s*", text):
        if match[1] == "retries":
            options["retries"] = int(match[2]) if match[2].isdigit() else -1
        elif match[1] in ("interval", "timeout", "start-period", "start-interval"):
            options[match[1].replace("-", "_")] = duration(match[2])
        else:
            raise InvalidArgument(f"unknown flag: --{match[1]}")
        text = text[match.end() :]
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        return _with(config, healthcheck=HealthConfig(test=["NONE"]))
    if kind.upper() != "CMD" or not rest.strip():
        raise InvalidArgument(f"Unknown type {json.dumps(kind)} in HEALTHCHECK (try CMD)")
    form = json_words(rest.strip())
    test = ["CMD", *form] if form is not None else ["CMD-SHELL", rest.strip()]
    return _with(config, healthcheck=HealthConfig(test=test, **options))


_INSTRUCTIONS: Mapping[str, Callable[[Config, str], Config]] = {
    "CMD": lambda config, text: _with(config, cmd=_command(config, text)),
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda config, text: _with(config, labels={**config.labels, **pairs("LABEL", text)}),
    "ONBUILD": _onbuild,
    "STOPSIGNAL": lambda config, text: _with(config, stop_signal=words(text)[0]),
    "USER": lambda config, text: _with(config, user=words(text)[0]),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
