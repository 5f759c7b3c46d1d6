"""docs/compat/containerd.md is true of the services: each method is in its table where the code has it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

from sampan.api import containerd as contracts
from sampan.containerd import grpc
from sampan.containerd.grpc.server import attribute

PAGE = Path(__file__).parents[2] / "docs" / "compat" / "containerd.md"
# Spoken by shims, over ttrpc, and not by clients.
TTRPC = ("containerd.services.events.ttrpc.v1.Events", "containerd.task.", "containerd.runtime.")


def rows() -> dict[str, tuple[set[str], set[str]]]:
    """{service: (offered, not offered)} as the page says."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and re.fullmatch(r"[\w.]+\.v\d\.\w+", cells[1]):
            offered, refused = (set(filter(None, re.split(r"[, ]+", cell))) for cell in cells[2:4])
            found[cells[1]] = offered, refused
    return found


def modules(package: Any) -> list[Any]:
    walked = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(one.name) for one in walked if not one.ispkg]


def services() -> dict[str, Any]:
    """Every service class of grpc/ by the name of what it serves."""
    found: dict[str, Any] = {}
    for module in modules(grpc):
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "descriptor"):
                found[short(kind.descriptor.full_name)] = kind
    return found


def short(name: str) -> str:
    return name.removeprefix("containerd.services.")


def test_every_service_of_the_contract_is_served_and_has_a_row() -> None:
    contract = {
        service.full_name
        for module in modules(contracts)
        if hasattr(module, "DESCRIPTOR")
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    served = {short(name) for name in contract if not name.startswith(TTRPC)}
    assert set(services()) == served
    assert set(rows()) == served


def test_the_page_says_of_every_method_whether_it_is_offered() -> None:
    for name, kind in services().items():
        methods = {method.name for method in kind.descriptor.methods}
        offered = {method for method in methods if hasattr(kind, attribute(method))}
        assert rows()[name] == (offered, methods - offered), name


def test_every_service_class_is_put_on_the_socket() -> None:
    serving = (Path(__file__).parents[2] / "src" / "sampan" / "containerd" / "grpc" / "serving.py").read_text()
    assert [kind.__name__ for kind in services().values() if f"{kind.__name__}(" not in serving] == []
