"""Flags are read as Docker's command line (pflag) reads them."""

import pytest

from sampan.cli.flags import Flag, UsageError, parse

FLAGS = (
    Flag("env e", "list"),
    Flag("interactive i", "bool"),
    Flag("tty t", "bool"),
    Flag("name"),
    Flag("memory m"),
    Flag("pids-limit", "int"),
    Flag("sig-proxy", "bool", default=True),
)


def test_every_spelling_of_a_value_is_the_same() -> None:
    for words in (["-e", "A=1"], ["-eA=1"], ["-e=A=1"], ["--env", "A=1"], ["--env=A=1"]):
        assert parse(FLAGS, words)["env"] == ["A=1"]


def test_short_bools_bundle_and_may_end_in_a_value() -> None:
    o = parse(FLAGS, ["-itm", "64m", "image"])
    assert (o["interactive"], o["tty"], o["memory"], o.args) == (True, True, "64m", ["image"])


def test_a_bool_takes_a_value_only_with_an_equals_sign() -> None:
    o = parse(FLAGS, ["--sig-proxy=false", "-t", "false"])
    assert (o["sig-proxy"], o["tty"], o.args) == (False, True, ["false"])


def test_flags_end_at_the_first_word_of_a_command() -> None:
    o = parse(FLAGS, ["-i", "image", "sh", "-t", "--name"], interspersed=False)
    assert (o["tty"], o.args) == (False, ["image", "sh", "-t", "--name"])


def test_two_dashes_end_the_flags() -> None:
    assert parse(FLAGS, ["--", "-t"]).args == ["-t"]


def test_lists_do_not_leak_from_one_parse_to_the_next() -> None:
    parse(FLAGS, ["-e", "A=1"])
    assert parse(FLAGS, [])["env"] == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bogus"], "unknown flag: --bogus"),
        (["-z"], "unknown shorthand flag: 'z' in -z"),
        (["--name"], "flag needs an argument: --name"),
        (["-ie"], "flag needs an argument: 'e' in -ie"),
        (["--pids-limit", "x"], 'invalid argument "x" for "--pids-limit" flag'),
        (["--tty=maybe"], 'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool'),
    ],
)
def test_a_wrong_word_is_refused_in_pflags_words(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, words)
    assert text in str(caught.value)
