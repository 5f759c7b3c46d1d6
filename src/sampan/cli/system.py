"""Commands on the engine as a whole: version, info, events."""

from __future__ import annotations

import json
import platform
import sys

from sampan import VERSION
from sampan.cli.connection import API_VERSION, ApiError, NoEngine
from sampan.cli.containers import filters, timestamp
from sampan.cli.flags import Flag
from sampan.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.main import Context

_FORMAT = (Flag("format f", help="Format output using a custom template, or 'json'"),)


def _render(document: Any, form: str) -> None:
    from sampan.cli.template import compile_template

    print(compile_template("{{json .}}" if form == "json" else form)(document))


def version(context: Context, words: list[str]) -> int:
    o = context.parse(_FORMAT, words, most=0)
    client = {
        "Version": VERSION,
        "ApiVersion": API_VERSION,
        "Os": "linux",
        "Arch": platform.machine(),
        "PythonVersion": platform.python_version(),
    }
    server, failure = None, ""
    try:
        server = context.api().get("/version")
    except (NoEngine, ApiError) as err:
        failure = str(err)
    if o["format"]:
        _render({"Client": client, "Server": server}, o["format"])
    else:
        print(f"Client:\n Version:    {VERSION}\n API version: {API_VERSION}\n Python:     {client['PythonVersion']}")
        if server:
            print(f"\nServer: {server['Platform']['Name']}")
            for part in server["Components"]:
                print(f" {part['Name']}:\n  Version:          {part['Version']}")
                for key, value in (part.get("Details") or {}).items():
                    print(f"  {key + ':':<17} {value}")
    if failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _info_lines(i: dict[str, Any]) -> list[str]:
    lines = ["Server:", f" Containers: {i['Containers']}"]
    lines += [f"  {word}: {i['Containers' + word]}" for word in ("Running", "Paused", "Stopped")]
    lines += [
        f" Images: {i['Images']}",
        f" Server Version: {i['ServerVersion']}",
        f" Storage Driver: {i['Driver']}",
        *(f"  {name}: {value}" for name, value in i.get("DriverStatus") or ()),
        f" Logging Driver: {i['LoggingDriver']}",
        f" Cgroup Driver: {i['CgroupDriver']}",
        f" Cgroup Version: {i['CgroupVersion']}",
        f" Runtimes: {' '.join(sorted(i['Runtimes']))}",
        f" Default Runtime: {i['DefaultRuntime']}",
        " Security Options:",
        *(f"  {option}" for option in i.get("SecurityOptions") or ()),
        f" Kernel Version: {i['KernelVersion']}",
        f" Operating System: {i['OperatingSystem']}",
        f" OSType: {i['OSType']}",
        f" Architecture: {i['Architecture']}",
        f" CPUs: {i['NCPU']}",
        f" Total Memory: {human_size(i['MemTotal'], 1024)}",
        f" Name: {i['Name']}",
        f" ID: {i['ID']}",
        f" Root Dir: {i['DockerRootDir']}",
        f" Live Restore Enabled: {str(i['LiveRestoreEnabled']).lower()}",
    ]
    return lines


def info(context: Context, words: list[str]) -> int:
    o = context.parse(_FORMAT, words, most=0)
    document = context.api().get("/info")
    if o["format"]:
        _render(document, o["format"])
        return 0
    print("\n".join(_info_lines(document)))
    for warning in document.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _event_line(event: dict[str, Any]) -> str:
    import time

    nano = event["timeNano"]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(nano // 10**9))
    zone = time.strftime("%z", time.localtime(nano // 10**9))
    attributes = ", ".join(f"{k}={v}" for k, v in sorted(event["Actor"]["Attributes"].items()))
    tail = f" ({attributes})" if attributes else ""
    zone = f"{zone[:3]}:{zone[3:]}"
    return f"{stamp}.{nano % 10**9:09d}{zone} {event['Type']} {event['Action']} {event['Actor']['ID']}{tail}"


def events(context: Context, words: list[str]) -> int:
    flags = (
        *_FORMAT,
        Flag("filter", "list", "Filter output based on conditions provided"),
        Flag("since", help="Show all events created since timestamp"),
        Flag("until", help="Stream events until this timestamp"),
    )
    o = context.parse(flags, words, most=0)
    query = {
        "filters": filters(o["filter"]) or None,
        "since": timestamp(o["since"]),
        "until": timestamp(o["until"]),
    }
    for event in context.api().request("GET", "/events", query).json_lines():
        if o["format"] == "json":
            print(json.dumps(event, separators=(",", ":")), flush=True)
        elif o["format"]:
            _render(event, o["format"])
            sys.stdout.flush()
        else:
            print(_event_line(event), flush=True)
    return 0
