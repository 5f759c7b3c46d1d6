"""Real config.json documents: as ctr 1.6, dockerd 20.10 and podman 4.3 wrote them, and one with every field."""

from __future__ import annotations

import json
import os
from typing import Any

_FOLDER = os.path.join(os.path.dirname(__file__), "seeds")
NAMES = ("ctr", "docker", "podman", "podman-userns", "everything")


def document(name: str) -> dict[str, Any]:
    """One of NAMES."""
    with open(f"{_FOLDER}/{name}.json") as file:
        found: dict[str, Any] = json.load(file)
    return found


def texts() -> list[bytes]:
    """All of them as JSON."""
    return [json.dumps(document(name)).encode() for name in NAMES]
