"""docs/security.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    page = (REPOSITORY / "docs/security.md").read_text()
    named = re.findall(r"`([a-z0-9_/]+\.py)::([a-z0-9_]+)`", page)
    assert len(named) > 25
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"^ *(async )?def {name}\(", (REPOSITORY / "tests" / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
