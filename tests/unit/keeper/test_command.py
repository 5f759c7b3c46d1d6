"""Errors of another runtime's commands, read from the log they were told to write."""

import pytest

from sampan.keeper.command import last_error


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ('{"level":"error","msg":"exec: \\"x\\": not found","time":"t"}\n', 'exec: "x": not found'),
        ('{"level":"warning","msg":"w"}\n{"level":"error","msg":"first"}\n{"level":"error","msg":"last"}\n', "last"),
        ('{"level":"error","msg":"told"}\n{"level":"info","msg":"i"}\nnot json\n[1]\n', "told"),
        ('{"level":"warning","msg":"w"}\n', ""),
        ("", ""),
    ],
)
def test_the_last_error_is_what_is_told(tmp_path, log, message):
    (tmp_path / "log").write_text(log)
    assert last_error(str(tmp_path / "log")) == message


def test_no_log_is_no_message(tmp_path):
    assert last_error(str(tmp_path / "none")) == ""
