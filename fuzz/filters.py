"""containerd's filter expressions, which any client may send."""

from __future__ import annotations

from random import Random

from sampan import errors
from sampan.containerd import filters

SEEDS = [
    b"name==foo",
    b'labels."a.b/c"~="^x.*$",id!=y',
    b"status",
    b"labels.x",
    b'name=="\\u00fc\\n"',
    b"a~=(((",
    b"a,b,c==|x|",
]
ERRORS = (errors.InvalidArgument,)


def feed(data: bytes, random: Random) -> None:
    """Read, and asked about an object that has all fields."""
    filters.parse([data.decode("utf-8", "replace")]).matches(lambda path: "x")
