"""The part of Go's text/template that people write after `--format`.

`{{.A.B}}`, `{{json .A}}`, `{{range .A}}..{{else}}..{{end}}`, `{{range $k, $v := .A}}`, `{{if .A}}..{{else}}..{{end}}`,
`{{with .A}}`, `{{index .A "k" 0}}`, `{{len .A}}`, `{{join .A ","}}`, `{{split ..}}`, `{{upper}}`, `{{lower}}`,
`{{title}}`, `{{println}}`, `{{printf "%s" ..}}`, `{{eq a b}}`, `{{ne a b}}`, `{{not a}}`, `{{and ..}}`, `{{or ..}}`,
`$`, pipes and `{{-`/`-}}`. Source: https://pkg.go.dev/text/template and docker's "Format command and log output" page.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.S)
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|:=|\)[\w.]*|[|(,]|[^\s|(),]+')


class TemplateError(Exception):
    """The template does not parse or names what is not there."""


def _parse_nodes(parts: list[Any], stop: tuple[str, ...]) -> tuple[list[Any], str]:
    nodes: list[Any] = []
    while parts:
        part = parts.pop(0)
        if isinstance(part, str):
            nodes.append(part)
            continue
        words = _TOKEN.findall(part[0])
        if not words:
            raise TemplateError("template parsing error: missing value for command")
        if words[0] in stop:
            return nodes, words[0]
        if words[0] in ("range", "if", "with"):
            body, end = _parse_nodes(parts, ("else", "end"))
            other: list[Any] = []
            if end == "else":
                other, end = _parse_nodes(parts, ("end",))
            nodes.append((words[0], words[1:], body, other))
        elif not words[0].startswith("/*"):
            nodes.append(("print", words))
    if stop:
        raise TemplateError("template parsing error: unexpected EOF")
    return nodes, ""


def _split(source: str) -> list[Any]:
    parts: list[Any] = []
    at = 0
    trim = False
    for match in _ACTION.finditer(source):
        text = source[at : match.start()]
        text = text.lstrip() if trim else text
        parts.append(text.rstrip() if match[1] else text)
        parts.append((match[2].strip(),))
        trim = bool(match[3])
        at = match.end()
    text = source[at:]
    if "{{" in text:
        raise TemplateError("template parsing error: unclosed action")
    parts.append(text.lstrip() if trim else text)
    return parts


def _field(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not name:
            continue
        if isinstance(value, dict):
            if name not in value:
                raise TemplateError(f"template: :1: executing at <.{path}>: map has no entry for key {name!r}")
            value = value[name]
        else:
            value = getattr(value, name, None)
    return value


def show(value: Any) -> str:
    """A value as Go's fmt prints it with %v."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(show(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _printf(form: str, *values: Any) -> str:
    return re.sub(r"%[vsd]", "%s", form) % tuple(show(v) for v in values)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda v: json.dumps(v, separators=(",", ":"), ensure_ascii=False),
    "index": _index,
    "len": lambda v: len(v or ()),
    "join": lambda v, sep: sep.join(show(i) for i in v or ()),
    "split": lambda v, sep: str(v).split(sep),
    "upper": lambda v: str(v).upper(),
    "lower": lambda v: str(v).lower(),
    "title": lambda v: str(v).title(),
    "println": lambda *v: " ".join(show(i) for i in v) + "\n",
    "print": lambda *v: "".join(show(i) for i in v),
    "printf": _printf,
    "eq": lambda a, *b: any(a == other for other in b),
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "lt": lambda a, b: a < b,
    "not": lambda a: not a,
    "and": lambda *v: next((i for i in v if not i), v[-1]),
    "or": lambda *v: next((i for i in v if i), v[-1]),
    "truncate": lambda v, n: str(v)[:n],
    "pad": lambda v, before, after: " " * before + str(v) + " " * after if v else "",
}


class _Scope:
    def __init__(self, root: Any) -> None:
        self.names: dict[str, Any] = {"$": root}

    def operand(self, word: str, dot: Any) -> Any:
        if word == ".":
            return dot
        if word.startswith("."):
            return _field(dot, word)
        if word.startswith("$"):
            name, _, path = word.partition(".")
            if name not in self.names:
                raise TemplateError(f"template parsing error: undefined variable {name!r}")
            return _field(self.names[name], path)
        if word[0] == '"':
            return json.loads(word)
        if word[0] == "`":
            return word[1:-1]
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[word]
        try:
            return int(word)
        except ValueError:
            raise TemplateError(f'template parsing error: function "{word}" not defined') from None

    def command(self, words: list[str], dot: Any, piped: tuple[Any, ...]) -> Any:
        values: list[Any] = []
        call = _FUNCTIONS.get(words[0]) if words else None
        rest = words[1:] if call else list(words)
        while rest:
            word = rest.pop(0)
            if word == "(":
                depth, inner = 1, []
                while rest and depth:
                    word = rest.pop(0)
                    depth += {"(": 1, ")": -1}.get(word[0], 0)
                    if depth:
                        inner.append(word)
                # The closing token may carry a field of the result: `(index .A 0).B` ends in ").B".
                values.append(_field(self.pipeline(inner, dot), word[1:]))
            else:
                values.append(self.operand(word, dot))
        values += piped
        if call:
            return call(*values)
        return values[0] if values else None

    def pipeline(self, words: list[str], dot: Any) -> Any:
        stages: list[list[str]] = [[]]
        depth = 0
        for word in words:
            depth += {"(": 1, ")": -1}.get(word[0], 0)
            if word == "|" and not depth:
                stages.append([])
            else:
                stages[-1].append(word)
        piped: tuple[Any, ...] = ()
        for stage in stages:
            piped = (self.command(stage, dot, piped),)
        return piped[0]

    def render(self, nodes: list[Any], dot: Any) -> str:
        out = []
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif node[0] == "print":
                out.append(self._print(node[1], dot))
            elif node[0] == "range":
                out.append(self._range(node, dot))
            else:
                value = self.pipeline(node[1], dot)
                inner = value if node[0] == "with" and value else dot
                out.append(self.render(node[2] if value else node[3], inner))
        return "".join(out)

    def _print(self, words: list[str], dot: Any) -> str:
        if ":=" in words:
            self.names[words[0]] = self.pipeline(words[words.index(":=") + 1 :], dot)
            return ""
        return show(self.pipeline(words, dot))

    def _range(self, node: Any, dot: Any) -> str:
        words = node[1]
        names: list[str] = []
        if ":=" in words:
            at = words.index(":=")
            names, words = [w for w in words[:at] if w != ","], words[at + 1 :]
        value = self.pipeline(words, dot)
        items = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value or ()))
        if not items:
            return self.render(node[3], dot)
        out = []
        for key, item in items:
            if names:
                self.names[names[-1]] = item
                if len(names) == 2:
                    self.names[names[0]] = key
            out.append(self.render(node[2], item))
        return "".join(out)


def compile_template(source: str) -> Callable[[Any], str]:
    """A function from a value to text. TemplateError when the source does not parse or a name is missing."""
    source = source.replace("\\t", "\t").replace("\\n", "\n")
    nodes, _ = _parse_nodes(_split(source), ())

    def render(value: Any) -> str:
        try:
            return _Scope(value).render(nodes, value)
        except (TypeError, ValueError, IndexError) as err:
            raise TemplateError(f"template: error calling: {err}") from err

    return render
