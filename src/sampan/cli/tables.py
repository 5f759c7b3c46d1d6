"""Listings: the default table, `--format table ...`, `--format json`, a template, or `-q`."""

from __future__ import annotations

import json
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def columns(rows: Sequence[Sequence[str]], gap: int = 3, least: int = 10) -> str:
    """Text in columns as docker's tabwriter aligns it, at least ten wide with the gap: the last is not padded."""
    widths = [max(*(len(row[i]) for row in rows), least - gap) for i in range(len(rows[0]))]
    return "".join(
        "".join(f"{cell:<{width + gap}}" for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )


def print_list(rows: Sequence[dict[str, Any]], headers: dict[str, str], default: Sequence[str], form: str) -> None:
    """Print `rows` (one dict of column -> text each).

    `headers` names every column there is; `default` are those of the plain table."""
    if not form or form == "table":
        shown = [[headers[name] for name in default]]
        shown += [[str(row[name]) for name in default] for row in rows]
        sys.stdout.write(columns(shown))
        return
    if form == "json":
        form = "{{json .}}"
    from sampan.cli.template import compile_template

    if form.startswith("table "):
        form = form[len("table ") :].replace("\\t", "\t")
        names = re.findall(r"\{\{\s*(?:\w+ )?\.(\w+)[^}]*\}\}", form)
        heads = {name: headers.get(name, name.upper()) for name in names}
        render = compile_template(form)
        lines = [re.sub(r"\{\{[^}]*?\.(\w+)[^}]*\}\}", lambda m: heads[m[1]], form)]
        lines += [render(row) for row in rows]
        sys.stdout.write(columns([line.split("\t") for line in lines]))
        return
    render = compile_template(form)
    for row in rows:
        print(render(row))


def print_documents(documents: Sequence[Any], form: str) -> None:
    """What `inspect` prints: an indented JSON list, or one rendered line a document."""
    if not form or form == "json":
        separators = (",", ":") if form else None
        print(json.dumps(documents, indent=None if form else 4, ensure_ascii=False, separators=separators))
        return
    from sampan.cli.template import compile_template

    render = compile_template(form)
    for document in documents:
        print(render(document))
