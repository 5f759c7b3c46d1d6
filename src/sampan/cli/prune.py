"""Commands that remove all that nobody uses, after a question."""

from __future__ import annotations

from sampan.cli.containers import filters
from sampan.cli.flags import Flag
from sampan.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.cli.main import Context

_FILTER = Flag("filter", "list", 'Provide filter values (e.g. "until=<timestamp>")')
FORCE = Flag("force f", "bool", "Do not prompt for confirmation")


def confirmed(what: str) -> bool:
    """Whether the user agrees to the removal of `what`; the end of the input is a no."""
    print(f"WARNING! This will remove {what}.")
    try:
        return input("Are you sure you want to continue? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def report(title: str, lines: Sequence[str], answer: dict[str, Any]) -> None:
    """What is gone, and the room that it took."""
    if lines:
        print(title, *lines, sep="\n", end="\n\n")
    print(f"Total reclaimed space: {human_size(answer.get('SpaceReclaimed') or 0)}")


def containers(context: Context, words: list[str]) -> int:
    o = context.parse((_FILTER, FORCE), words, most=0)
    if o["force"] or confirmed("all stopped containers"):
        answer = context.api().call("POST", "/containers/prune", {"filters": filters(o["filter"]) or None})
        report("Deleted Containers:", answer.get("ContainersDeleted") or (), answer)
    return 0


def images(context: Context, words: list[str]) -> int:
    every = Flag("all a", "bool", "Remove all unused images, not just dangling ones")
    o = context.parse((every, _FILTER, FORCE), words, most=0)
    unused = "all images without at least one container associated to them"
    if o["force"] or confirmed(unused if o["all"] else "all dangling images"):
        asked = {**filters(o["filter"]), "dangling": ["false" if o["all"] else "true"]}
        answer = context.api().call("POST", "/images/prune", {"filters": asked})
        gone = [f"{verb.lower()}: {name}" for one in answer.get("ImagesDeleted") or () for verb, name in one.items()]
        report("Deleted Images:", gone, answer)
    return 0
