"""Commands on networks."""

from __future__ import annotations

from sampan.cli.connection import quote
from sampan.cli.containers import each, filters
from sampan.cli.create_request import pairs
from sampan.cli.flags import Flag
from sampan.cli.tables import print_list
from sampan.cli.volumes import LIST_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.main import Context


def ls(context: Context, words: list[str]) -> int:
    o = context.parse(LIST_FLAGS, words, most=0)
    items = context.api().get("/networks", filters=filters(o["filter"]) or None)
    rows = [
        {
            "ID": item["Id"] if o["no-trunc"] else item["Id"][:12],
            "Name": item["Name"],
            "Driver": item["Driver"],
            "Scope": item["Scope"],
            "Internal": str(item["Internal"]).lower(),
            "Labels": ",".join(f"{k}={v}" for k, v in sorted((item.get("Labels") or {}).items())),
        }
        for item in sorted(items, key=lambda item: str(item["Name"]))
    ]
    if o["quiet"]:
        for row in rows:
            print(row["ID"])
        return 0
    headers = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Internal": "INTERNAL"}
    print_list(rows, {**headers, "Labels": "LABELS"}, ["ID", "Name", "Driver", "Scope"], o["format"])
    return 0


def create(context: Context, words: list[str]) -> int:
    flags = (
        Flag("attachable", "bool", "Enable manual container attachment"),
        Flag("driver d", help="Driver to manage the Network", default="bridge"),
        Flag("gateway", help="IPv4 or IPv6 Gateway for the master subnet"),
        Flag("internal", "bool", "Restrict external access to the network"),
        Flag("ip-range", help="Allocate container ip from a sub-range"),
        Flag("label", "list", "Set metadata on a network"),
        Flag("opt o", "list", "Set driver specific options"),
        Flag("subnet", help="Subnet in CIDR format that represents a network segment"),
    )
    o = context.parse(flags, words, least=1, most=1)
    pool: dict[str, Any] = {
        key: o[flag] for flag, key in (("subnet", "Subnet"), ("gateway", "Gateway"), ("ip-range", "IPRange")) if o[flag]
    }
    body = {
        "Name": o.args[0],
        "Driver": o["driver"],
        "Internal": o["internal"],
        "Attachable": o["attachable"],
        "Labels": pairs(o["label"]),
        "Options": pairs(o["opt"]),
        "IPAM": {"Driver": "default", "Config": [pool] if pool else []},
    }
    print(context.api().call("POST", "/networks/create", None, body)["Id"])
    return 0


def rm(context: Context, words: list[str]) -> int:
    o = context.parse((Flag("force f", "bool", "Do not error if the network does not exist"),), words, least=1)
    api = context.api()
    return each(o.args, lambda name: api.call("DELETE", f"/networks/{quote(name)}"))


def connect(context: Context, words: list[str]) -> int:
    flags = (
        Flag("alias", "list", "Add network-scoped alias for the container"),
        Flag("ip", help="IPv4 address (e.g., 172.30.100.104)"),
    )
    o = context.parse(flags, words, least=2, most=2)
    endpoint: dict[str, Any] = {"Aliases": o["alias"]}
    if o["ip"]:
        endpoint["IPAMConfig"] = {"IPv4Address": o["ip"]}
    body = {"Container": o.args[1], "EndpointConfig": endpoint}
    context.api().call("POST", f"/networks/{quote(o.args[0])}/connect", None, body)
    return 0


def disconnect(context: Context, words: list[str]) -> int:
    o = context.parse((Flag("force f", "bool", "Force the container to disconnect"),), words, least=2, most=2)
    body = {"Container": o.args[1], "Force": o["force"]}
    context.api().call("POST", f"/networks/{quote(o.args[0])}/disconnect", None, body)
    return 0
