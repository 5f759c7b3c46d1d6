"""Tests mirror the source: a module has a test file of its own kind, or stands in the list of exceptions."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "sampan"
TESTS = ROOT / "tests"


def test_a_unit_test_directory_has_its_room_in_the_source() -> None:
    orphans = [
        str(path.relative_to(TESTS))
        for path in (TESTS / "unit").rglob("test_*.py")
        if not (SRC / path.parent.relative_to(TESTS / "unit")).is_dir()
    ]
    assert orphans == []


def test_no_test_uses_mocks_or_sleeps_a_fixed_time() -> None:
    """`eventually` waits for a state; a mock of the kernel proves only that the mock was called."""
    banned = ("unittest" + ".mock", "monkeypatch.setattr(time", "time.sleep(1)")
    found = [
        f"{path.relative_to(TESTS)}: {word}"
        for path in TESTS.rglob("*.py")
        if path != Path(__file__)
        for word in banned
        if word in path.read_text()
    ]
    assert found == []
