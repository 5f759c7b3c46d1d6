"""The HTTP library, imported when a registry is first spoken to.

With what it brings it is 10 MB, a fifth of what a core without containers holds: most clients of containerd
fetch by themselves and only write what they fetched (docs/decisions/memory-of-the-core.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp
    import yarl
else:

    class _Late:
        """Stands for a module until something of it is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            value = getattr(importlib.import_module(self._name), attribute)
            setattr(self, attribute, value)
            return value

    aiohttp, yarl = _Late("aiohttp"), _Late("yarl")

__all__ = ["aiohttp", "transport_errors", "yarl"]


def transport_errors() -> tuple[type[BaseException], ...]:
    """What a request may raise when it gets no answer."""
    return aiohttp.ClientError, OSError, TimeoutError
