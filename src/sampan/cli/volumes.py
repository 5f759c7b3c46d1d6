"""Commands on volumes."""

from __future__ import annotations

from sampan.cli.connection import quote
from sampan.cli.containers import each, filters
from sampan.cli.create_request import pairs
from sampan.cli.flags import Flag
from sampan.cli.prune import FORCE, confirmed, report
from sampan.cli.tables import print_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.main import Context

LIST_FLAGS = (
    Flag("filter f", "list", 'Provide filter values (e.g. "dangling=true")'),
    Flag("format", help="Format output using a template, or 'table' or 'json'"),
    Flag("no-trunc", "bool", "Do not truncate the output"),
    Flag("quiet q", "bool", "Only display names or ids"),
)


def ls(context: Context, words: list[str]) -> int:
    o = context.parse(LIST_FLAGS, words, most=0)
    answer = context.api().get("/volumes", filters=filters(o["filter"]) or None)
    rows = [
        {
            "Driver": item["Driver"],
            "Name": item["Name"],
            "Mountpoint": item["Mountpoint"],
            "Scope": item.get("Scope", ""),
            "Labels": ",".join(f"{k}={v}" for k, v in sorted((item.get("Labels") or {}).items())),
        }
        for item in sorted(answer.get("Volumes") or (), key=lambda item: str(item["Name"]))
    ]
    if o["quiet"]:
        for row in rows:
            print(row["Name"])
        return 0
    headers = {"Driver": "DRIVER", "Name": "VOLUME NAME", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE"}
    print_list(rows, {**headers, "Labels": "LABELS"}, ["Driver", "Name"], o["format"])
    return 0


def create(context: Context, words: list[str]) -> int:
    flags = (
        Flag("driver d", help="Specify volume driver name", default="local"),
        Flag("label", "list", "Set metadata for a volume"),
        Flag("name", help="Specify volume name"),
        Flag("opt o", "list", "Set driver specific options"),
    )
    o = context.parse(flags, words, most=1)
    body = {
        "Name": o.args[0] if o.args else o["name"],
        "Driver": o["driver"],
        "DriverOpts": pairs(o["opt"]),
        "Labels": pairs(o["label"]),
    }
    print(context.api().call("POST", "/volumes/create", None, body)["Name"])
    return 0


def rm(context: Context, words: list[str]) -> int:
    o = context.parse((Flag("force f", "bool", "Force the removal of one or more volumes"),), words, least=1)
    api = context.api()
    return each(o.args, lambda name: api.call("DELETE", f"/volumes/{quote(name)}", {"force": o["force"]}))


def prune(context: Context, words: list[str]) -> int:
    flags = (
        Flag("all a", "bool", "Remove all unused volumes, not just anonymous ones"),
        Flag("filter", "list", 'Provide filter values (e.g. "label=<label>")'),
        FORCE,
    )
    o = context.parse(flags, words, most=0)
    which = "all local volumes" if o["all"] else "anonymous local volumes"
    if not o["force"] and not confirmed(f"{which} not used by at least one container"):
        return 0
    asked = filters(o["filter"])
    if o["all"]:
        asked["all"] = ["true"]
    answer = context.api().call("POST", "/volumes/prune", {"filters": asked or None})
    report("Deleted Volumes:", answer.get("VolumesDeleted") or (), answer)
    return 0
