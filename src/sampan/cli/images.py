"""Commands on images and registries."""

from __future__ import annotations

import os
import sys

from sampan.cli import credentials
from sampan.cli.connection import Api, ApiError, quote
from sampan.cli.containers import filters
from sampan.cli.flags import Flag, Refusal, UsageError
from sampan.cli.progress import follow
from sampan.cli.references import check, familiar, fault, split_reference
from sampan.cli.tables import print_list
from sampan.cli.units import ago, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from sampan.cli.main import Context


def pull_image(
    api: Api, name: str, platform: str = "", *, quiet: bool = False, all_tags: bool = False, out: TextIO | None = None
) -> str:
    """Pull and show progress; the name with its tag. ApiError with the engine's words."""
    repository, tag = split_reference(name)
    query = {"fromImage": repository, "tag": "" if all_tags else tag or "latest", "platform": platform}
    response = api.request("POST", "/images/create", query, headers=credentials.header(name))
    with open(os.devnull, "w") as nowhere:
        follow(response.json_lines(), nowhere if quiet else out)
    response.close()
    separator = "@" if tag.startswith("sha256:") else ":"
    return f"{repository}{separator}{tag or 'latest'}"


def pull(context: Context, words: list[str]) -> int:
    flags = (
        Flag("all-tags a", "bool", "Download all tagged images in the repository"),
        Flag("platform", help="Set platform if server is multi-platform capable"),
        Flag("quiet q", "bool", "Suppress verbose output"),
    )
    o = context.parse(flags, words, least=1, most=1)
    name = o.args[0]
    check(name)
    if not (o["all-tags"] or o["quiet"] or split_reference(name)[1]):
        print("Using default tag: latest")
        sys.stdout.flush()
    full = pull_image(context.api(), name, o["platform"], quiet=o["quiet"], all_tags=o["all-tags"])
    print(familiar(full))
    return 0


def push(context: Context, words: list[str]) -> int:
    o = context.parse((Flag("quiet q", "bool", "Suppress verbose output"),), words, least=1, most=1)
    repository, tag = split_reference(o.args[0])
    api = context.api()
    if not o["quiet"]:
        print(f"The push refers to repository [{familiar(repository)}]")
        if not tag:
            print("Using default tag: latest")
        sys.stdout.flush()
    response = api.request(
        "POST", f"/images/{quote(repository)}/push", {"tag": tag or "latest"}, headers=credentials.header(repository)
    )
    with open(os.devnull, "w") as nowhere:
        follow(response.json_lines(), nowhere if o["quiet"] else None)
    return 0


_HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}


def _image_rows(item: dict[str, Any], whole: bool, digests: bool) -> list[dict[str, str]]:
    names = [split_reference(name) for name in item.get("RepoTags") or () if name != "<none>:<none>"]
    digest_of = dict(name.split("@", 1) for name in item.get("RepoDigests") or () if "@" in name)
    if not names:
        names = [(repository, "<none>") for repository in digest_of] or [("<none>", "<none>")]
    return [
        {
            "Repository": repository,
            "Tag": tag,
            "Digest": digest_of.get(repository, "<none>") if digests else "<none>",
            "ID": item["Id"] if whole else item["Id"].removeprefix("sha256:")[:12],
            "CreatedSince": ago(item["Created"]),
            "CreatedAt": str(item["Created"]),
            "Size": human_size(item["Size"]),
        }
        for repository, tag in names
    ]


def images(context: Context, words: list[str]) -> int:
    flags = (
        Flag("all a", "bool", "Show all images (default hides intermediate images)"),
        Flag("digests", "bool", "Show digests"),
        Flag("filter f", "list", "Filter output based on conditions provided"),
        Flag("format", help="Format output using a template, or 'table' or 'json'"),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet q", "bool", "Only show image IDs"),
    )
    o = context.parse(flags, words, most=1)
    asked = filters(o["filter"])
    if o.args:
        asked.setdefault("reference", []).append(o.args[0])
    items = context.api().get("/images/json", all=o["all"], filters=asked or None)
    rows = [row for item in items for row in _image_rows(item, o["no-trunc"], o["digests"])]
    if o["quiet"] and not o["format"]:
        for identity in dict.fromkeys(row["ID"] for row in rows):
            print(identity)
        return 0
    default = ["Repository", "Tag", *(["Digest"] if o["digests"] else []), "ID", "CreatedSince", "Size"]
    print_list(rows, _HEADERS, default, o["format"])
    return 0


def tag(context: Context, words: list[str]) -> int:
    o = context.parse((), words, least=2, most=2)
    for word in o.args:
        if why := fault(word):
            raise Refusal(f'Error parsing reference: "{word}" is not a valid repository/tag: {why}')
    repository, name = split_reference(o.args[1])
    context.api().call("POST", f"/images/{quote(o.args[0])}/tag", {"repo": repository, "tag": name})
    return 0


def rmi(context: Context, words: list[str]) -> int:
    flags = (
        Flag("force f", "bool", "Force removal of the image"),
        Flag("no-prune", "bool", "Do not delete untagged parents"),
    )
    o = context.parse(flags, words, least=1)
    api, code = context.api(), 0
    for name in o.args:
        try:
            answer = api.call("DELETE", f"/images/{quote(name)}", {"force": o["force"], "noprune": o["no-prune"]})
        except ApiError as err:
            print(f"Error response from daemon: {err}", file=sys.stderr)
            code = 0 if o["force"] and err.status == 404 else 1
            continue
        for step in answer:
            for kind, text in step.items():
                print(f"{kind}: {text}")
    return code


def history(context: Context, words: list[str]) -> int:
    flags = (
        Flag("format", help="Format output using a template, or 'table' or 'json'"),
        Flag("no-trunc", "bool", "Don't truncate output"),
        Flag("quiet q", "bool", "Only show image IDs"),
    )
    o = context.parse(flags, words, least=1, most=1)
    rows = []
    for item in context.api().get(f"/images/{quote(o.args[0])}/history"):
        by = item["CreatedBy"].replace("\t", " ")
        rows.append(
            {
                "ID": item["Id"] if o["no-trunc"] else item["Id"].removeprefix("sha256:")[:12],
                "CreatedSince": ago(item["Created"]) if item["Created"] > 0 else "N/A",
                "CreatedBy": by if o["no-trunc"] or len(by) <= 45 else by[:44] + "…",
                "Size": human_size(item["Size"]),
                "Comment": item.get("Comment") or "",
            }
        )
    if o["quiet"]:
        for row in rows:
            print(row["ID"])
        return 0
    headers = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE"}
    headers["Comment"] = "COMMENT"
    print_list(rows, headers, list(headers), o["format"])
    return 0


def login(context: Context, words: list[str]) -> int:
    import base64
    import getpass

    flags = (
        Flag("password p", help="Password"),
        Flag("password-stdin", "bool", "Take the password from stdin"),
        Flag("username u", help="Username"),
    )
    o = context.parse(flags, words, most=1)
    registry = o.args[0] if o.args else credentials.HUB
    user = o["username"]
    if o["password-stdin"]:
        if not user:
            raise UsageError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    else:
        user = user or input("Username: ")
        password = o["password"] or getpass.getpass()
    body = {"username": user, "password": password, "serveraddress": registry}
    answer = context.api().call("POST", "/auth", None, body)
    document = credentials.load()
    store = (document.get("credHelpers") or {}).get(registry) or document.get("credsStore")
    if store:
        import json

        credentials.helper(store, "store", json.dumps({"ServerURL": registry, "Username": user, "Secret": password}))
    else:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        document.setdefault("auths", {})[registry] = {"auth": secret}
        credentials.save(document)
    print((answer or {}).get("Status") or "Login Succeeded")
    return 0


def logout(context: Context, words: list[str]) -> int:
    o = context.parse((), words, most=1)
    registry = o.args[0] if o.args else credentials.HUB
    document = credentials.load()
    store = (document.get("credHelpers") or {}).get(registry) or document.get("credsStore")
    print(f"Removing login credentials for {registry}")
    if store:
        credentials.helper(store, "erase", registry)
    elif (document.get("auths") or {}).pop(registry, None) is not None:
        credentials.save(document)
    return 0
