"""Registry credentials where docker keeps them: `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.

`auths`, `credsStore` and `credHelpers` (docker-credential-* programs) are read; `login` writes `auths` (or the store).
"""

from __future__ import annotations

import base64
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "https://index.docker.io/v1/"


def config_path() -> str:
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return os.path.join(folder, "config.json")


def load() -> dict[str, Any]:
    """The file's document, or {} when there is none or it is not JSON."""
    try:
        with open(config_path(), encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def save(document: dict[str, Any]) -> None:
    path = config_path()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    fresh = f"{path}.new{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent="\t")
    os.replace(fresh, path)


def registry_of(image: str) -> str:
    """The host part of an image's name; docker.io's key in `auths` for a name without one."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return HUB if first in ("docker.io", "index.docker.io") else first
    return HUB


def helper(program: str, verb: str, text: str) -> str:
    """Ask `docker-credential-PROGRAM`; its output. OSError when it is missing or fails."""
    import subprocess

    done = subprocess.run(
        [f"docker-credential-{program}", verb], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(done.stdout.strip() or done.stderr.strip())
    return done.stdout


def find(registry: str) -> dict[str, str]:
    """The API's AuthConfig for the registry; {} when none is known."""
    document = load()
    program = (document.get("credHelpers") or {}).get(registry) or document.get("credsStore")
    if program:
        try:
            answer = json.loads(helper(program, "get", registry))
            if answer["Username"] == "<token>":
                return {"identitytoken": answer["Secret"], "serveraddress": registry}
            return {"username": answer["Username"], "password": answer["Secret"], "serveraddress": registry}
        except (OSError, ValueError, KeyError):
            return {}
    auths = document.get("auths") or {}
    entry = auths.get(registry) or auths.get(f"https://{registry}") or auths.get(f"https://{registry}/v1/") or {}
    out = {"serveraddress": registry}
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        out.update(username=user, password=password)
    if entry.get("identitytoken"):
        out["identitytoken"] = entry["identitytoken"]
    return out if len(out) > 1 else {}


def header(image: str) -> dict[str, str]:
    """The X-Registry-Auth header for a pull or push of `image` (base64url of an AuthConfig)."""
    document = find(registry_of(image))
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(document).encode()).decode()}
