"""Help texts in runc's form (urfave/cli): line 2 of a verb's text names it, which its users' tests look for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.runtime.flags import Flag
    from sampan.runtime.verbs import Verb


def overview(flags: list[Flag], verbs: Mapping[str, Verb]) -> str:
    """What the command without arguments prints."""
    rows = [(f"{name}", verb.usage) for name, verb in sorted(verbs.items())] + [
        ("help, h", "Shows a list of commands or help for one command")
    ]
    return (
        "NAME:\n   sampan-runc - Open Container Initiative runtime\n\n"
        "USAGE:\n   sampan-runc [global options] command [command options] [arguments...]\n\n"
        f"COMMANDS:\n{_table(rows)}\nGLOBAL OPTIONS:\n{_flags(flags)}"
    )


def of_verb(name: str, verb: Verb) -> str:
    """What `NAME --help` prints."""
    return (
        f"NAME:\n   runc {name} - {verb.usage}\n\n"
        f"USAGE:\n   runc {name} [command options] {verb.arguments}\n\nOPTIONS:\n{_flags(verb.flags)}   \n"
    )


def _flags(flags: list[Flag]) -> str:
    return _table([(flag.line(), flag.usage) for flag in flags])


def _table(rows: list[tuple[str, str]]) -> str:
    width = max((len(left) for left, _ in rows), default=0)
    return "".join(f"   {left.ljust(width)}  {right}\n" for left, right in rows)
