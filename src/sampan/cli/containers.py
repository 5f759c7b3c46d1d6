"""Commands on containers that carry no streams of their own: ps, stop, rm, logs, ..."""

from __future__ import annotations

import sys

from sampan.cli.connection import ApiError
from sampan.cli.flags import Flag, UsageError
from sampan.cli.tables import columns, print_list
from sampan.cli.units import ago, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.cli.main import Context


def each(names: Sequence[str], act: Callable[[str], Any], show: Callable[[str, Any], str] | None = None) -> int:
    """Do `act` for every name, print the name as docker does, go on after a failure; 1 when any failed."""
    code = 0
    for name in names:
        try:
            answer = act(name)
            print(show(name, answer) if show else name)
        except ApiError as err:
            print(f"Error response from daemon: {err}", file=sys.stderr)
            code = 1
    return code


def filters(words: list[str]) -> dict[str, list[str]]:
    """`--filter k=v` words as the API's filters object. UsageError in docker's words."""
    out: dict[str, list[str]] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise UsageError(f'invalid argument "{word}" for "-f, --filter" flag: invalid filter \'{word}\'')
        out.setdefault(key.strip().lower(), []).append(value.strip())
    return out


def ports_text(ports: list[dict[str, Any]]) -> str:
    """The PORTS column: "0.0.0.0:8080->80/tcp, 443/tcp"."""
    words = []
    for port in sorted(ports, key=lambda p: (p["PrivatePort"], p.get("IP", ""))):
        tail = f"{port['PrivatePort']}/{port['Type']}"
        address = port.get("IP", "")
        if ":" in address:
            address = f"[{address}]"
        words.append(f"{address}:{port['PublicPort']}->{tail}" if port.get("PublicPort") else tail)
    return ", ".join(words)


def _mounts_text(mounts: list[dict[str, Any]], whole: bool) -> str:
    names = [m.get("Name") or m.get("Source", "") for m in mounts]
    return ",".join(name if whole or len(name) <= 15 else name[:14] + "…" for name in names)


def _row(item: dict[str, Any], whole: bool) -> dict[str, str]:
    command = item["Command"] if whole or len(item["Command"]) <= 20 else item["Command"][:19] + "…"
    labels = item.get("Labels") or {}
    size = item.get("SizeRw") or 0
    return {
        "ID": item["Id"] if whole else item["Id"][:12],
        "Image": item["Image"] if whole or not item["Image"].startswith("sha256:") else item["Image"][7:19],
        "Command": f'"{command}"',
        "CreatedAt": str(item["Created"]),
        "RunningFor": ago(item["Created"]),
        "Status": item["Status"],
        "State": item["State"],
        "Ports": ports_text(item.get("Ports") or []),
        "Names": ",".join(name.lstrip("/") for name in item["Names"] if name.count("/") == 1),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": _mounts_text(item.get("Mounts") or [], whole),
        "Networks": ",".join((item.get("NetworkSettings") or {}).get("Networks") or {}),
        "LocalVolumes": str(sum(m.get("Type") == "volume" for m in item.get("Mounts") or [])),
        "Size": f"{human_size(size)} (virtual {human_size(item.get('SizeRootFs') or 0)})",
    }


_PS_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
}
_PS_FLAGS = (
    Flag("all a", "bool", "Show all containers (default shows just running)"),
    Flag("filter f", "list", "Filter output based on conditions provided"),
    Flag("format", help="Format output using a template, or 'table' or 'json'"),
    Flag("last n", "int", "Show n last created containers (includes all states)", default=-1),
    Flag("latest l", "bool", "Show the latest created container (includes all states)"),
    Flag("no-trunc", "bool", "Don't truncate output"),
    Flag("quiet q", "bool", "Only display container IDs"),
    Flag("size s", "bool", "Display total file sizes"),
)


def ps(context: Context, words: list[str]) -> int:
    o = context.parse(_PS_FLAGS, words, most=0)
    limit = 1 if o["latest"] else o["last"]
    query = {
        "all": o["all"] or limit > 0,
        "limit": limit if limit > 0 else None,
        "filters": filters(o["filter"]) or None,
        "size": o["size"],
    }
    items = context.api().get("/containers/json", **query)
    rows = [_row(item, o["no-trunc"]) for item in items]
    if o["quiet"] and not o["format"]:
        for row in rows:
            print(row["ID"])
        return 0
    default = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names", *(["Size"] if o["size"] else [])]
    print_list(rows, _PS_HEADERS, default, o["format"])
    return 0


_STOP_FLAGS = (
    Flag("time t timeout", "int", "Seconds to wait before killing the container", default=-1),
    Flag("signal s", help="Signal to send to the container"),
)


def _stop_like(context: Context, words: list[str], verb: str) -> int:
    o = context.parse(_STOP_FLAGS, words, least=1)
    query = {"t": o["time"] if "time" in o.given else None, "signal": o["signal"]}
    if query["t"] == 0:
        query["t"] = "0"
    api = context.api()
    return each(o.args, lambda name: api.call("POST", f"/containers/{name}/{verb}", query))


def stop(context: Context, words: list[str]) -> int:
    return _stop_like(context, words, "stop")


def restart(context: Context, words: list[str]) -> int:
    return _stop_like(context, words, "restart")


def kill(context: Context, words: list[str]) -> int:
    o = context.parse((Flag("signal s", help="Signal to send to the container"),), words, least=1)
    api = context.api()
    return each(o.args, lambda name: api.call("POST", f"/containers/{name}/kill", {"signal": o["signal"]}))


def rm(context: Context, words: list[str]) -> int:
    flags = (
        Flag("force f", "bool", "Force the removal of a running container (uses SIGKILL)"),
        Flag("volumes v", "bool", "Remove anonymous volumes associated with the container"),
    )
    o = context.parse(flags, words, least=1)
    api = context.api()
    query = {"force": o["force"], "v": o["volumes"]}

    def remove(name: str) -> None:
        try:
            api.call("DELETE", f"/containers/{name}", query)
        except ApiError as err:
            if not (o["force"] and err.status == 404):
                raise

    return each(o.args, remove)


def _plain(verb: str) -> Callable[[Context, list[str]], int]:
    def command(context: Context, words: list[str]) -> int:
        o = context.parse((), words, least=1)
        api = context.api()
        return each(o.args, lambda name: api.call("POST", f"/containers/{name}/{verb}"))

    return command


pause = _plain("pause")
unpause = _plain("unpause")


def wait(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=1)
    api = context.api()
    return each(
        o.args,
        lambda name: api.call("POST", f"/containers/{name}/wait"),
        lambda _, answer: str(answer["StatusCode"]),
    )


def rename(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=2, most=2)
    context.api().call("POST", f"/containers/{o.args[0]}/rename", {"name": o.args[1]})
    return 0


_LOGS_FLAGS = (
    Flag("details", "bool", "Show extra details provided to logs"),
    Flag("follow f", "bool", "Follow log output"),
    Flag("since", help="Show logs since timestamp or relative (e.g. 42m for 42 minutes)"),
    Flag("until", help="Show logs before a timestamp or relative (e.g. 42m for 42 minutes)"),
    Flag("tail n", help="Number of lines to show from the end of the logs", default="all"),
    Flag("timestamps t", "bool", "Show timestamps"),
)


def timestamp(word: str) -> str:
    """Docker's `--since`: an RFC 3339 or Unix time as it is, a Go duration as the moment so long ago."""
    from sampan.cli.units import epoch_of, parse_duration

    if not word or word.replace(".", "", 1).isdigit():
        return word
    try:
        import time

        return f"{time.time() - parse_duration(word) / 1e9:.9f}"
    except ValueError:
        pass
    full = word if "T" in word else word + "T00:00:00"
    if not (full.endswith("Z") or full[-6:-5] in ("+", "-")):
        full += "Z"
    epoch = epoch_of(full)
    if not epoch:
        raise UsageError(f'invalid value for "since": failed to parse value as time or duration: "{word}"')
    return f"{epoch:.9f}"


def logs(context: Context, words: list[str]) -> int:
    from sampan.cli.terminal import write_all, write_frames
    from sampan.wire.stdcopy import Demultiplexer

    o = context.parse(_LOGS_FLAGS, words, least=1, most=1)
    api, name = context.api(), o.args[0]
    tty = api.get(f"/containers/{name}/json")["Config"]["Tty"]
    query = {
        "stdout": True,
        "stderr": True,
        "follow": o["follow"],
        "since": timestamp(o["since"]),
        "until": timestamp(o["until"]),
        "tail": o["tail"],
        "timestamps": o["timestamps"],
        "details": o["details"],
    }
    response = api.request("GET", f"/containers/{name}/logs", query)
    frames = Demultiplexer()
    for piece in response.pieces():
        if tty:
            write_all(1, piece)
            continue
        write_frames(frames, piece)
    return 0


def top(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=1)
    answer = context.api().get(f"/containers/{o.args[0]}/top", ps_args=" ".join(o.args[1:]))
    sys.stdout.write(columns([answer["Titles"], *answer["Processes"]], least=20))
    return 0


def port(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=1, most=2)
    name = o.args[0]
    bound = context.api().get(f"/containers/{name}/json")["NetworkSettings"]["Ports"] or {}
    wanted = o.args[1] if len(o.args) == 2 else ""
    if wanted and "/" not in wanted:
        wanted += "/tcp"
    lines = []
    for key, hosts in sorted(bound.items()):
        for host in hosts or ():
            address = f"[{host['HostIp']}]" if ":" in host["HostIp"] else host["HostIp"]
            shown = f"{address}:{host['HostPort']}"
            if not wanted or key == wanted:
                lines.append(shown if wanted else f"{key} -> {shown}")
    if wanted and not lines:
        print(f"Error: No public port '{wanted}' published for {name}", file=sys.stderr)
        return 1
    print("\n".join(lines), end="\n" if lines else "")
    return 0
