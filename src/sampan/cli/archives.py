"""Commands whose substance is a tar: save and load, export and import, commit; and diff, which lists one's changes."""

from __future__ import annotations

import os
import sys

from sampan.cli.connection import quote
from sampan.cli.flags import Flag, Refusal
from sampan.cli.progress import follow
from sampan.cli.references import split_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from sampan.cli.main import Context

_PIECE = 1 << 18
_KINDS = "CAD"
_OUTPUT = Flag("output o", help="Write to a file, instead of STDOUT")
_CHANGE = Flag("change c", "list", "Apply Dockerfile instruction to the created image")
_MESSAGE = Flag("message m", help="Set commit message")


def save(context: Context, words: list[str]) -> int:
    o = context.parse((_OUTPUT,), words, least=1)
    _fetch(context, o["output"], "/images/get", {"names": list(o.args)})
    return 0


def export(context: Context, words: list[str]) -> int:
    o = context.parse((_OUTPUT,), words, least=1, most=1)
    _fetch(context, o["output"], f"/containers/{quote(o.args[0])}/export", {})
    return 0


def load(context: Context, words: list[str]) -> int:
    flags = (
        Flag("input i", help="Read from tar archive file, instead of STDIN"),
        Flag("quiet q", "bool", "Suppress the load output"),
    )
    o = context.parse(flags, words, most=0)
    if not o["input"] and sys.stdin.isatty():
        raise Refusal("requested load from stdin, but stdin is empty")
    with _opened(o["input"] or "-") as file:
        response = context.api().request("POST", "/images/load", {"quiet": o["quiet"]}, _pieces(file))
    follow(response.json_lines())
    response.close()
    return 0


def import_(context: Context, words: list[str]) -> int:
    flags = (_CHANGE, _MESSAGE, Flag("platform", help="Set platform if server is multi-platform capable"))
    o = context.parse(flags, words, least=1, most=2)
    repository, tag = split_reference(o.args[1]) if len(o.args) > 1 else ("", "")
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "message": o["message"], "changes": o["change"],
             "platform": o["platform"]}  # fmt: skip
    with _opened(o.args[0]) as file:
        response = context.api().request("POST", "/images/create", query, _pieces(file))
    follow(response.json_lines())
    response.close()
    return 0


def commit(context: Context, words: list[str]) -> int:
    flags = (
        Flag("author a", help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        _CHANGE,
        _MESSAGE,
        Flag("pause p", "bool", "Pause container during commit", default=True),
    )
    o = context.parse(flags, words, least=1, most=2)
    repository, tag = split_reference(o.args[1]) if len(o.args) > 1 else ("", "")
    query = {"container": o.args[0], "repo": repository, "tag": tag, "author": o["author"], "comment": o["message"],
             "changes": o["change"], "pause": str(int(o["pause"]))}  # fmt: skip
    print(context.api().call("POST", "/commit", query, {})["Id"])
    return 0


def diff(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=1, most=1)
    for change in context.api().get(f"/containers/{quote(o.args[0])}/changes") or ():
        print(_KINDS[change["Kind"]], change["Path"])
    return 0


def _fetch(context: Context, output: str, path: str, query: Mapping[str, object]) -> None:
    """Write what the engine sends to the file `output` ("" is stdout). The file comes to be only when all is there."""
    if not output and sys.stdout.isatty():
        raise Refusal("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output and not os.path.isdir(os.path.dirname(output) or "."):
        raise Refusal(f'invalid output path: directory "{os.path.dirname(output)}" does not exist')
    response = context.api().request("GET", path, query)
    if not output:
        for piece in response.pieces():
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    # The name does not exist before: a broken transfer must not leave half a file under it.
    partial = f"{output}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as file:
            for piece in response.pieces():
                file.write(piece)
        os.replace(partial, output)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def _opened(name: str) -> BinaryIO:
    """The file `name`, or stdin for "-". Refusal in the shell's words."""
    if name == "-":
        return sys.stdin.buffer
    try:
        return open(name, "rb")  # the caller's `with` closes it
    except OSError as error:
        raise Refusal(f"open {name}: {(error.strerror or str(error)).lower()}") from None


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
