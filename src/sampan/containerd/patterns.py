"""Regular expressions as clients write them: Go's syntax (RE2), matched by Python's engine.

What Go has and Python spells otherwise is rewritten; what only Python has (looking around, back references, possessive
repeats) is refused, as Go does. Not known here: \\p classes of Unicode.
"""

from __future__ import annotations

import re

_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_PIECE = re.compile(
    r"""\[:(?P<negated>\^?)(?P<name>[a-z]+):\]   # a class of characters, inside brackets
    |\\Q(?P<literal>.*?)(?:\\E|\Z)
    |\\x\{(?P<code>[0-9a-fA-F]+)\}
    |(?P<end>\\z)
    |(?P<foreign>\\[1-9]|\\[ZGkNpP]|\(\?(?:[=!>\#(]|<[=!]|P[=>])|[*+?}][+])
    |(?P<flags>\(\?[ims]+\))
    |\\.|(?P<dollar>\$)|.""",
    re.VERBOSE | re.DOTALL,
)


def pattern(text: str) -> re.Pattern[str] | None:
    """`text` compiled; None when it is no regular expression of Go's."""
    rewritten, in_brackets, by_lines = "", False, False
    # How many groups of our own are open in each of the text's.
    opened = [0]
    for found in _PIECE.finditer(text):
        piece = found[0]
        if in_brackets:
            if found["name"]:
                if found["name"] not in _CLASSES or found["negated"]:
                    return None
                piece = _CLASSES[found["name"]]
            in_brackets = piece != "]"
        elif found["foreign"]:
            return None
        elif found["literal"] is not None:
            piece = re.escape(found["literal"])
        elif found["code"]:
            piece = re.escape(chr(int(found["code"], 16)))
        elif found["end"] or (found["dollar"] and not by_lines):
            piece = r"\Z"
        elif found["flags"]:
            # Go's hold to the end of the group, Python's for the whole: a group of its own says it.
            by_lines = by_lines or "m" in piece
            piece = f"{piece[:-1]}:"
            opened[-1] += 1
        elif piece == "(":
            opened.append(0)
        elif piece == ")" and len(opened) > 1:
            piece += ")" * opened.pop()
        else:
            in_brackets = piece == "["
        rewritten += piece
    try:
        return re.compile(rewritten + ")" * opened[0], re.ASCII)
    except (re.error, RecursionError, OverflowError, ValueError):
        return None
