"""Command-line flags as runc takes them (Go's flag package): -x, --x, --x=v, --x v; argparse would cost 20 ms."""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOOL, STRING, INT, LIST = "bool", "string", "int", "list"

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


class Flag:
    """`names` without dashes, the first is the key of the result; `kind` one of BOOL, STRING, INT, LIST."""

    __slots__ = ("default", "kind", "names", "usage")

    def __init__(self, names: str, kind: str, usage: str, default: Any = None) -> None:
        self.names = tuple(name.strip() for name in names.split(","))
        self.kind = kind
        self.usage = usage
        self.default = default

    def initial(self) -> Any:
        if self.kind == LIST:
            return []
        if self.default is not None:
            return self.default
        return {BOOL: False, STRING: "", INT: 0}[self.kind]

    def line(self) -> str:
        """The flag's line in a help text, without its usage."""
        suffix = "" if self.kind == BOOL else " value"
        return ", ".join(("--" if len(name) > 1 else "-") + name + suffix for name in self.names)


def parse(arguments: list[str], known: list[Flag], reorder: bool = True) -> tuple[dict[str, Any], list[str]]:
    """(values by each flag's first name, the other arguments). Errors: InvalidArgument in Go's words.

    With `reorder` flags may follow arguments; without, the first argument ends them. A value given at all is also under
    the key "name!".
    """
    by_name = {name: flag for flag in known for name in flag.names}
    values: dict[str, Any] = {flag.names[0]: flag.initial() for flag in known}
    rest: list[str] = []
    todo = list(reversed(arguments))
    while todo:
        word = todo.pop()
        if word == "--":
            rest += reversed(todo)
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if not reorder:
                rest += reversed(todo)
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        flag = by_name.get(name)
        if flag is None:
            raise InvalidArgument(f"flag provided but not defined: -{name}")
        if flag.kind == BOOL:
            _set(values, flag, name, value if equals else "true")
        elif equals:
            _set(values, flag, name, value)
        elif todo:
            _set(values, flag, name, todo.pop())
        else:
            raise InvalidArgument(f"flag needs an argument: -{name}")
    return values, rest


def _set(values: dict[str, Any], flag: Flag, name: str, text: str) -> None:
    key = flag.names[0]
    if flag.kind == LIST:
        values[key] = [*values[key], text]
    elif flag.kind == BOOL:
        if text not in TRUE and text not in FALSE:
            raise InvalidArgument(f'invalid boolean value "{text}" for -{name}: parse error')
        values[key] = text in TRUE
    elif flag.kind == INT:
        try:
            values[key] = int(text, 0)
        except ValueError:
            raise InvalidArgument(f'invalid value "{text}" for flag -{name}: parse error') from None
    else:
        values[key] = text
    values[key + "!"] = True
