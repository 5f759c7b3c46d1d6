"""Words find their command; failures find their exit code."""

import pytest

from sampan.cli.flags import UsageError
from sampan.cli.main import ALIASES, COMMANDS, find, main


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        (["ps", "-a"], "ps", ["-a"]),
        (["container", "ls", "-a"], "ps", ["-a"]),
        (["image", "inspect", "x"], "inspect", ["--type", "image", "x"]),
        (["volume", "ls"], "volume ls", []),
        (["network", "remove", "n"], "network rm", ["n"]),
        (["run", "volume", "ls"], "run", ["volume", "ls"]),
    ],
)
def test_a_word_or_two_name_a_command(words: list[str], name: str, rest: list[str]) -> None:
    assert find(words) == (name, rest)


@pytest.mark.parametrize("words", [["bogus"], ["volume", "bogus"]])
def test_an_unknown_word_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        find(words)


@pytest.mark.parametrize("entry", sorted(COMMANDS))
def test_every_command_in_the_table_exists(entry: str) -> None:
    module, function, _, _ = COMMANDS[entry]
    assert callable(getattr(__import__(f"sampan.cli.{module}", fromlist=[function]), function))


def test_every_alias_leads_to_a_command() -> None:
    assert {
        alias for alias, name in ALIASES.items() if name not in COMMANDS and name.split()[0] not in COMMANDS
    } == set()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["run", "--bogus"], 125),
        (["run"], 1),
        (["ps", "--bogus"], 125),
        (["bogus"], 1),
        (["-H", "unix:///nowhere/at/all", "ps"], 1),
        (["-H", "unix:///nowhere/at/all", "run", "x"], 125),
    ],
)
def test_failures_have_docker_s_exit_codes(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    captured = capsys.readouterr()
    assert (captured.err == "") == (code == 0)


def test_help_of_a_command_names_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "--cap-add list" in capsys.readouterr().out
