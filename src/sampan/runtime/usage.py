"""Help texts in runc's form (urfave/cli): line 2 of a verb's text names it, which its users' tests look for."""

from __future__ import annotations

from sampan.runtime.flags import BOOL, INT, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.runtime.verbs import Verb


def overview(flags: list[Flag], verbs: Mapping[str, Verb], version: str) -> str:
    """What the command without arguments prints. `version` is the text of --version."""
    rows = [(f"{name}", verb.usage) for name, verb in sorted(verbs.items())] + [
        ("help, h", "Shows a list of commands or help for one command")
    ]
    indented = version.removeprefix("runc version ").rstrip("\n").replace("\n", "\n   ")
    return (
        "NAME:\n   sampan-runc - Open Container Initiative runtime\n\n"
        'It takes runc\'s command line and runs bundles: directories with a "config.json" and a root file system.\n\n'
        "    # sampan-runc run [ -b bundle ] <container-id>\n\n"
        "USAGE:\n   sampan-runc [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {indented}\n\n"
        f"COMMANDS:\n{_table(rows)}\nGLOBAL OPTIONS:\n{_flags(flags)}"
    )


def of_verb(name: str, verb: Verb) -> str:
    """What `NAME --help` prints; a verb without flags has no options."""
    options = "[command options] " if verb.flags else ""
    text = (
        f"NAME:\n   runc {name} - {verb.usage}\n\n"
        f"USAGE:\n   runc {name} {options}{verb.arguments or '[arguments...]'}\n"
    )
    return f"{text}\nOPTIONS:\n{_flags(verb.flags)}   \n" if verb.flags else text


def _flags(flags: list[Flag]) -> str:
    return _table([(flag.line(), flag.usage + _default(flag)) for flag in flags])


def _default(flag: Flag) -> str:
    if flag.kind == BOOL or (flag.default is None and flag.kind != INT):
        return ""
    return f" (default: {flag.initial()})" if flag.kind == INT else f' (default: "{flag.default}")'


def _table(rows: list[tuple[str, str]]) -> str:
    width = max((len(left) for left, _ in rows), default=0)
    return "".join(f"   {left.ljust(width)}  {right}\n" for left, right in rows)
