"""Flags as Docker's command line spells them: `--name value`, `--name=value`, `-it`, `-e A=B`, `-eA=B`, `--`.

A command's flags are a table; the parser knows nothing else. Kinds: bool, str, list (repeatable), int.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class UsageError(Exception):
    """The words do not fit the command; the text is pflag's."""


class Refusal(Exception):
    """The words are right and the thing cannot be done from here (no terminal, a stopped container)."""


class Flag:
    """`names` without dashes ("env", "e"); the first is the key in the result."""

    __slots__ = ("default", "help", "kind", "names")

    def __init__(self, names: str, kind: str = "str", help: str = "", default: Any = None) -> None:
        self.names = names.split()
        self.kind = kind
        self.help = help
        empty: dict[str, Any] = {"bool": False, "str": "", "list": [], "int": 0}
        self.default = empty[kind] if default is None else default

    @property
    def key(self) -> str:
        return self.names[0]


class Options:
    """Parsed flags by key, the positional words in `args`, and which keys were given in `given`."""

    def __init__(self, values: dict[str, Any], args: list[str], given: set[str]) -> None:
        self.values = values
        self.args = args
        self.given = given

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def _convert(flag: Flag, shown: str, text: str) -> Any:
    if flag.kind == "bool":
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise UsageError(
            f'invalid argument "{text}" for "{shown}" flag: strconv.ParseBool: parsing "{text}": invalid syntax'
        )
    if flag.kind == "int":
        try:
            return int(text)
        except ValueError:
            raise UsageError(
                f'invalid argument "{text}" for "{shown}" flag: strconv.ParseInt: parsing "{text}": invalid syntax'
            ) from None
    return text


class _Reader:
    def __init__(self, flags: Sequence[Flag], words: Sequence[str]) -> None:
        self.by_name = {name: flag for flag in flags for name in flag.names}
        self.words = list(words)
        self.values: dict[str, Any] = {f.key: list(f.default) if f.kind == "list" else f.default for f in flags}
        self.given: set[str] = set()

    def set(self, flag: Flag, shown: str, text: str) -> None:
        value = _convert(flag, shown, text)
        if flag.kind == "list":
            self.values[flag.key].append(value)
        else:
            self.values[flag.key] = value
        self.given.add(flag.key)

    def value_of(self, shown: str) -> str:
        if not self.words:
            raise UsageError(f"flag needs an argument: {shown}")
        return self.words.pop(0)

    def long(self, word: str) -> None:
        name, has_value, value = word[2:].partition("=")
        flag = self.by_name.get(name) if len(name) > 1 else None
        if flag is None:
            raise UsageError(f"unknown flag: --{name}")
        shown = ", ".join(sorted((f"-{n}" if len(n) == 1 else f"--{n}" for n in flag.names), key=len))
        if not has_value:
            value = "true" if flag.kind == "bool" else self.value_of(f"--{name}")
        self.set(flag, shown, value)

    def short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.by_name.get(letter)
            if flag is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
            if flag.kind == "bool" and not letters.startswith("="):
                self.set(flag, f"-{letter}", "true")
                continue
            value = letters.removeprefix("=") if letters else self.value_of(f"'{letter}' in {word}")
            letters = ""
            self.set(flag, f"-{letter}", value)


def parse(flags: Sequence[Flag], words: Sequence[str], *, interspersed: bool = True) -> Options:
    """Read `words` by the table. Without `interspersed` the first positional word ends the flags (run, exec).

    UsageError with pflag's text."""
    reader = _Reader(flags, words)
    args: list[str] = []
    while reader.words:
        word = reader.words.pop(0)
        if word == "--":
            args += reader.words
            break
        if word.startswith("--"):
            reader.long(word)
        elif word.startswith("-") and word != "-":
            reader.short(word)
        else:
            args.append(word)
            if not interspersed:
                args += reader.words
                break
    return Options(reader.values, args, reader.given)


def usage_lines(flags: Sequence[Flag]) -> str:
    """The "Options:" part of a help page."""
    rows = []
    for flag in sorted(flags, key=lambda f: f.names[0]):
        short = next((n for n in flag.names if len(n) == 1), "")
        left = (f"-{short}, " if short else "    ") + f"--{flag.key}"
        left += {"bool": "", "str": " string", "list": " list", "int": " int"}[flag.kind]
        rows.append((left, flag.help))
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"  {left:<{width}}   {help}".rstrip() for left, help in rows)
