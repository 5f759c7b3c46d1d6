"""What ctr never asks, and other clients of containerd's API do: the same requests to containerd 2.1 and to sampan,
good and bad ones, must have the same answers, errors and events. What differs on purpose is in
docs/compat/containerd.md and not in here.
"""

from __future__ import annotations

import asyncio
import difflib
import gzip
import hashlib
import io
import itertools
import json
import os
import shutil
import tarfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from grpclib import GRPCError
from grpclib.client import Channel
from tests.conftest import leave_out
from tests.peers.api import Api
from tests.peers.containers import Containerd, Core, SampanContainerd, newer_tools
from tests.peers.machine import Machine

pytestmark = pytest.mark.needs("containerd", "runc")

RUNC = {"name": "io.containerd.runc.v2"}
HERE = "sha256:" + "a" * 64
LONG = {"k": "v" * 5000}
ROOT = {"containerd.io/gc.root": "x"}
STAT, WRITE, COMMIT = 0, 1, 2


def spec(**document: Any) -> dict[str, Any]:
    value = json.dumps(document or {"ociVersion": "1.0.2"}).encode()
    return {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Spec", "value": value}


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"container": {"id": name, "runtime": RUNC, "spec": spec(), **more}}


async def containers(api: Api) -> None:
    async with api.listening():
        for wrong in ("", "a" * 77, "a b", ".."):
            await api.say("Containers", "Create", container(wrong))
        await api.say("Containers", "Create", {"container": {"id": "norun", "spec": spec()}})
        await api.say("Containers", "Create", container("key", snapshot_key="k"))
        await api.say("Containers", "Create", container("label", labels=LONG))
        await api.say("Containers", "Create", container("nameless", labels={"": "v"}))
        await api.say("Containers", "Create", container("extension", extensions={"": spec()}))
        full = {"image": "img", "snapshotter": "overlayfs", "snapshot_key": "s", "labels": {"a": "1", "e": ""}}
        await api.say("Containers", "Create", container("c", **full, extensions={"e": spec()}))
        await api.say("Containers", "Create", container("c"))
        await api.say("Containers", "Create", {"container": {"id": "bare", "runtime": RUNC}})
        # Extensions are left out: containerd never takes one away.
        for mask in ("labels", "labels.a", "image", "spec", "snapshotkey", "snapshot_key", "runtime", "snapshotter",
                     "id", "sandbox", "nothing", "extensions."):  # fmt: skip
            changed = container("c", **full | {"image": "other", "labels": {"a": "2", "z": "3"}})
            await api.say("Containers", "Update", changed | {"update_mask": [mask]})
        await api.say("Containers", "Update", container("c", **full | {"snapshotter": "native"}))
        await api.say("Containers", "Update", container("c", **full | {"runtime": {"name": "other"}}))
        await api.say("Containers", "Update", container("c", **full, extensions={"e": spec()}))
        await api.say("Containers", "Update", container("c", labels=LONG) | {"update_mask": ["labels.k"]})
        await api.say("Containers", "Update", container(""))
        await api.say("Containers", "Update", container("none"))
        for name in ("c", "none", "", "a b"):
            await api.say("Containers", "Get", {"id": name})
        for name in ("none", "", "c"):
            await api.say("Containers", "Delete", {"id": name})
    await api.say("Containers", "List", {}, namespace="")
    await api.say("Containers", "List", {}, namespace="a b")


async def filters(api: Api) -> None:
    for name in ("x1", "x2"):
        await api.call(
            "Containers", "Create", container(name, image="i" if name == "x2" else "", labels={"a.b/c": "1,2"})
        )
    for text in (
        "", "id==x1", "id!=x1", "id~=x[[:digit:]]", "id~=(?i)X1", "id~=x(?=1)", "id~=[", "id~=/x1/", "id~=|x1|",
        'labels."a.b/c"=="1,2"', "labels.a", "labels", "runtime.name==io.containerd.runc.v2,id==x1", "nothing",
        "image", "id.x==y", 'id=="\\x781"', "id == x1",
        "id ==x1 , image==i", "id=x", "id===x", "id<x", "id==", "id==  ",
        "id==x,", ",",
        'id=="x', "id==/x1/", "id=='x1'", "i d==x", "labels.a/b", "-==x",
    ):  # fmt: skip
        await api.say("Containers", "List", {"filters": [text]})
    await api.say("Containers", "List", {"filters": ["id==x1", "image==i"]})
    await api.say("Containers", "ListStream", {"filters": ["id=x"]})


async def images(api: Api) -> None:
    target = {"media_type": "m", "digest": HERE, "size": 10}

    async def create(name: str, **more: Any) -> None:
        await api.say("Images", "Create", {"image": {"name": name, "target": target, **more}})

    async with api.listening():
        await create("")
        for wrong in (
            {"digest": "foo"},
            {"digest": "md5:aa"},
            {"digest": "sha256:aa"},
            {"size": 0},
            {"media_type": ""},
        ):
            await create("i", target=target | wrong)
        await create("long", labels=LONG)
        await create("i", labels={"a": "b", "e": ""})
        await create("i")
        await create("a b/..#", target=target | {"annotations": {"x": "y"}})
        for mask in ("labels", "labels.a", "labels.none", "target", "annotations", "annotations.a", "name", "",
                     "target.annotations", "created_at"):  # fmt: skip
            changed = {"name": "i", "labels": {"a": "1"}, "target": target | {"size": 12, "annotations": {"a": "1"}}}
            await api.say("Images", "Update", {"image": changed, "update_mask": [mask]})
        await api.say("Images", "Update", {"image": {"name": "i", "target": target, "labels": {"c": "d"}}})
        await api.say("Images", "Update", {"image": {"name": "none", "target": target}})
        await api.say("Images", "Update", {"image": {"name": "", "target": target}})
        for text in ("name==i", "target.digest~=^sha256", "target.mediatype==m", "annotations.x==y", "target.size==10"):
            await api.say("Images", "List", {"filters": [text]})
        await api.say("Images", "Delete", {"name": "i", "target": target | {"digest": "sha256:" + "b" * 64}})
        await api.say("Images", "Delete", {"name": "i", "target": target})
        await api.say("Images", "Delete", {"name": "i"})


async def content(api: Api) -> None:
    async with api.listening():
        # A blob that no other namespace has, for that would be shared.
        data = f"hello {api.namespace}".encode()
        hello, size = "sha256:" + hashlib.sha256(data).hexdigest(), len(data)
        await api.write({"action": STAT})
        await api.write({"action": STAT, "ref": "r", "total": size, "expected": hello})
        await api.say("Content", "Status", {"ref": "r"})
        await api.say("Content", "Status", {"ref": "none"})
        await api.write({"action": WRITE, "ref": "r", "offset": 9, "data": b"x"})
        await api.write(
            {"action": WRITE, "ref": "r", "data": data[:2]}, {"action": WRITE, "offset": 2, "data": data[2:]}
        )
        await api.write({"action": WRITE, "ref": "short", "data": b"abc"}, {"action": COMMIT, "offset": 3, "total": 4})
        await api.write({"action": COMMIT, "ref": "r", "offset": size, "expected": HERE})
        await api.say("Content", "Status", {"ref": "r"})
        labels = {"a": "b", "e": "", **ROOT}
        await api.write(
            {"action": COMMIT, "ref": "r", "offset": size, "total": size, "expected": hello, "labels": labels}
        )
        await api.write({"action": STAT, "ref": "again", "expected": hello})
        await api.write({"action": COMMIT, "ref": "again", "data": data})
        await api.write({"action": COMMIT, "ref": "long", "data": b"x", "labels": LONG})
        await api.write({"action": STAT, "ref": "leased"}, lease="none")
        for digest in ("", "foo", "sha256:aa", "md5:aa", HERE, hello):
            await api.say("Content", "Info", {"digest": digest})
            await api.say("Content", "Read", {"digest": digest})
        for offset, length in ((0, 3), (2, 2), (4, 999), (size, 0), (size + 1, 0), (-1, 0)):
            await api.say("Content", "Read", {"digest": hello, "offset": offset, "size": length})
        for mask in ("labels", "labels.a", "labels.z", "size", "digest", ""):
            info = {"digest": hello, "labels": {"a": "1", **ROOT}}
            await api.say("Content", "Update", {"info": info, "update_mask": [mask]})
        await api.say("Content", "Update", {"info": {"digest": hello, "labels": LONG}})
        await api.say("Content", "Update", {"info": {"digest": HERE}})
        for text in (f"digest=={hello}", f"size=={size}", "size", "labels.a", "nothing"):
            await api.say("Content", "List", {"filters": [text]})
        await api.say("Content", "ListStatuses", {"filters": ["ref==again"]})
        for digest in ("foo", HERE, hello):
            await api.say("Content", "Delete", {"digest": digest})
        await api.say("Content", "Abort", {"ref": "long"})
        await api.say("Content", "Abort", {"ref": "none"})


async def writes(api: Api) -> None:
    """What happens to a blob while it is being written, and to one that another namespace has."""
    data = f"written {api.namespace}".encode()
    digest, size = "sha256:" + hashlib.sha256(data).hexdigest(), len(data)

    async def aborted() -> None:
        await api.say("Content", "Abort", {"ref": "w"})
        await api.say("Content", "Status", {"ref": "w"})
        await api.say("Content", "Abort", {"ref": "w"})

    begin = {"action": WRITE, "ref": "w", "total": size, "data": data[:5]}
    commit = {"action": COMMIT, "offset": 5, "data": data[5:], "total": size, "expected": digest}
    await api.write(begin, aborted)
    await api.say("Content", "ListStatuses", {})
    # A writer that was cut off may hold its ref for a moment.
    await api.write(begin | {"ref": "again"}, {"action": STAT}, commit, namespace=f"{api.namespace}-other")
    whole = {"total": size, "expected": digest}
    await api.write({"action": STAT, "ref": "cut", **whole}, {"action": WRITE, "data": data[:5]},
                    {"action": WRITE, "offset": 4, "data": b"x"})  # fmt: skip
    await api.say("Content", "Status", {"ref": "cut"})
    async with api.listening():
        for number, stream in enumerate((
            ({"action": STAT, **whole}, {"action": WRITE, "data": data[:5]}, commit),
            ({"action": COMMIT, **whole, "data": data},),
            ({"action": WRITE, **whole, "data": data}, {"action": COMMIT, "offset": size}),
            ({"action": STAT, **whole}, {"action": COMMIT, "offset": size, **whole}),
        )):  # fmt: skip
            first = {**stream[0], "ref": f"shared-{number}"}
            await api.write(first, *stream[1:])
            await api.say("Content", "Read", {"digest": digest})
            await api.say("Content", "Delete", {"digest": digest})


async def leases(api: Api) -> None:
    await api.say("Leases", "Create", {"id": "l", "labels": {"a": "b", "e": "", **LONG}})
    await api.say("Leases", "Create", {"id": "l"})
    kinds = ("content", "ingests", "images", "snapshots/native", "snapshots", "snapshots/a/b", "content/x", "other", "")
    for kind in kinds:
        for name in (HERE, "foo", ""):
            resource = {"type": kind, "id": name}
            if kind != "images":  # of 1.7 on
                await api.say("Leases", "AddResource", {"id": "l", "resource": resource})
    await api.say("Leases", "AddResource", {"id": "none", "resource": {"type": "content", "id": HERE}})
    await api.say("Leases", "ListResources", {"id": "l"})
    for kind in kinds:
        await api.say("Leases", "DeleteResource", {"id": "l", "resource": {"type": kind, "id": "foo"}})
    await api.say("Leases", "ListResources", {"id": "l"})
    await api.say("Leases", "List", {"filters": ["labels.a==b"]})
    native = {"snapshotter": "native"}
    await api.say("Snapshots", "Prepare", native | {"key": "k"}, lease="none")
    await api.call("Snapshots", "Prepare", native | {"key": "k"}, lease="l")
    await api.call("Snapshots", "View", native | {"key": "v"}, lease="l")
    await api.say("Snapshots", "Commit", native | {"key": "k", "name": "c"}, lease="l")
    await api.write({"action": WRITE, "ref": "half", "data": b"x"}, lease="l")
    await api.write({"action": COMMIT, "ref": "whole", "data": b"leased"}, lease="l")
    await api.say("Leases", "ListResources", {"id": "l"})
    await api.say("Leases", "Delete", {"id": "l", "sync": True})
    await api.say("Leases", "Delete", {"id": "l"})
    await api.say("Snapshots", "Stat", native | {"key": "c"})


async def snapshots(api: Api) -> None:
    async def say(method: str, **body: Any) -> None:
        await api.say("Snapshots", method, {"snapshotter": "overlayfs", **body})

    async with api.listening():
        await say("Prepare", snapshotter="", key="k")
        await say("Prepare", snapshotter="none", key="k")
        await say("Prepare", key="")
        await say("Prepare", key="a", parent="none")
        await say("Prepare", key="a", labels=LONG)
        await say("Prepare", key="a", labels={"x": "y", "e": "", **ROOT})
        await say("Prepare", key="a")
        for method in ("Mounts", "Stat", "Usage", "Remove"):
            await say(method, key="none")
            await say(method, key="")
        await say("Commit", key="a", name="")
        await say("Commit", key="none", name="c")
        await say("Commit", key="a", name="a")
        await say("Commit", key="a", name="c", labels={"l": "m", **ROOT})
        await say("Stat", key="c")
        await say("Prepare", key="b", parent="c", labels=ROOT)
        await say("Commit", key="b", name="c")
        await say("View", key="v", parent="c", labels=ROOT)
        await say("Remove", key="c")
        await say("Prepare", key="p", labels={"containerd.io/snapshot.ref": "c"})
        for mask in ("labels", "labels.a", "parent", "kind", "name", ""):
            info = {"name": "c", "labels": {"a": "1", **ROOT}, "parent": "z"}
            await say("Update", info=info, update_mask=[mask])
        await say("Update", info={"name": ""})
        await say("Update", info={"name": "none"})
        for text in ("kind==active", "kind==committed", "kind==view", "kind==Active", "parent==c", "parent", "name~=c"):
            await say("List", filters=[text])
        for key in ("v", "b", "c"):
            await say("Remove", key=key)


async def layers(api: Api) -> None:
    """Small ones, and one that is worth a process of its own to unpack."""
    kind = "application/vnd.oci.image.layer.v1.tar"
    for number, size in enumerate((2, 1 << 20)):
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            member = tarfile.TarInfo(f"file{number}")
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
        digest = await api.blob(written.getvalue(), ROOT)
        packed = await api.blob(gzip.compress(written.getvalue(), mtime=0), ROOT)
        body = {"snapshotter": "overlayfs", "key": f"l{number}", "parent": "c0" if number else "", "labels": ROOT}
        mounts = (await api.call("Snapshots", "Prepare", body)).mounts
        rootfs = [{"type": one.type, "source": one.source, "options": list(one.options)} for one in mounts]
        for media_type, blob in (
            (kind, digest), (f"{kind}+gzip", packed), ("application/vnd.docker.image.rootfs.diff.tar.gzip", packed),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", packed), ("application/x", digest),
            ("", digest), (kind, HERE), (kind, "foo"), (f"{kind}+gzip", digest),
        ):  # fmt: skip
            layer = {"media_type": media_type, "digest": blob, "size": 1}
            # The mounts are each core's own.
            try:
                answer = str((await api.call("Diff", "Apply", {"diff": layer, "mounts": rootfs})).applied.digest)
            except GRPCError as error:
                answer = f"{error.status.name} {error.message}"
            api.said.append(f"{layer} → {answer}")
        commit = {"snapshotter": "overlayfs", "key": f"l{number}", "name": f"c{number}", "labels": ROOT}
        await api.call("Snapshots", "Commit", commit)


async def namespaces(api: Api) -> None:
    name = f"{api.namespace}-other"
    for wrong in ("", "a b", "a" * 77, "-a", "a..b"):
        await api.say("Namespaces", "Create", {"namespace": {"name": wrong}})
    await api.say("Namespaces", "Create", {"namespace": {"name": "long", "labels": LONG}})
    await api.say("Namespaces", "Create", {"namespace": {"name": name, "labels": {"a": "b", "e": ""}}})
    await api.say("Namespaces", "Create", {"namespace": {"name": name}})
    for mask in ("labels", "name", ""):
        await api.say(
            "Namespaces", "Update", {"namespace": {"name": name, "labels": {"a": "1"}}, "update_mask": [mask]}
        )
    await api.call(
        "Namespaces", "Update", {"namespace": {"name": name, "labels": {"c": "3"}}, "update_mask": ["labels.c"]}
    )
    for asked in (name, "none", ""):
        await api.say("Namespaces", "Get", {"name": asked})
    root = {"containerd.io/gc.root": "1"}  # or a collection would race with the look at what is there
    for key in ("native", "overlayfs"):
        await api.call("Snapshots", "Prepare", {"snapshotter": key, "key": "k", "labels": root}, namespace=name)
    image = {"image": {"name": "i", "target": {"media_type": "m", "digest": HERE, "size": 1}}}
    await api.call("Images", "Create", image, namespace=name)
    await api.call("Containers", "Create", container("c"), namespace=name)
    for asked in (name, "none", ""):
        await api.say("Namespaces", "Delete", {"name": asked})


async def collections(api: Api) -> None:
    """Each object alone, so that the blob or snapshot that a label or lease names shows what it is worth."""
    blobs = {name: "sha256:" + hashlib.sha256(name.encode()).hexdigest() for name in "abcdefghijk"}
    snaps = ("s1", "s2", "s3", "s4")
    await api.call("Leases", "Create", {"id": "hold"})
    native = {"snapshotter": "native"}
    for name in snaps:
        await api.call("Snapshots", "Prepare", native | {"key": f"p{name}"}, lease="hold")
        await api.call("Snapshots", "Commit", native | {"key": f"p{name}", "name": name}, lease="hold")
    flags = {
        "a": {"containerd.io/gc.root": "1", "containerd.io/gc.ref.content.0": blobs["b"],
              "containerd.io/gc.ref.content.l.1": blobs["c"], "containerd.io/gc.ref.contentx": blobs["d"],
              "containerd.io/gc.ref.snapshot.native": "s1", "containerd.io/gc.ref.snapshot.native/x": "s2",
              "containerd.io/gc.ref.snapshot.native.1": "s3"},
        "e": {"containerd.io/gc.root": ""},
        "f": {"containerd.io/gc.ref.content": blobs["k"]},
    }  # fmt: skip
    for name in blobs:
        await api.blob(name.encode(), flags.get(name), lease="hold")
    past, future = "2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    for name, labels in (
        ("f", {"containerd.io/gc.flat": "x"}), ("g", {"containerd.io/gc.expire": past}),
        ("h", {"containerd.io/gc.expire": future}), ("i", {"containerd.io/gc.expire": "never"}),
    ):  # fmt: skip
        await api.call("Leases", "Create", {"id": name, "labels": labels})
        await api.call("Leases", "AddResource", {"id": name, "resource": {"type": "content", "id": blobs[name]}})
    image = {"name": "i", "target": {"media_type": "m", "digest": blobs["j"], "size": 1}}
    await api.call("Images", "Create", {"image": image})
    everything = [("Content", "Info", {"digest": digest}) for digest in blobs.values()]
    everything += [("Snapshots", "Stat", native | {"key": name}) for name in snaps]
    async with api.listening():
        await api.call("Leases", "Delete", {"id": "hold", "sync": True})
        await api.there(*everything)
        await api.call("Images", "Delete", {"name": "i"})
        async with asyncio.timeout(15):
            while True:  # nobody asks for it: a removal is enough
                try:
                    await api.call("Content", "Info", {"digest": blobs["j"]})
                except GRPCError:
                    break
                await asyncio.sleep(0.05)
        await api.call("Content", "Update", {"info": {"digest": blobs["a"]}})
        await api.call("Leases", "Delete", {"id": "f", "sync": True})
        await api.there(*everything)


async def events(api: Api) -> None:
    out_of_memory = {"type_url": "containerd.events.TaskOOM", "value": b"\n\x03abc"}
    async with api.listening():
        for topic in ("", "x", "/", "/a b", "//", "/a/", "/a..b", "/tasks/oom"):
            await api.say("Events", "Publish", {"topic": topic, "event": out_of_memory})
        await api.say("Events", "Publish", {"topic": "/x", "event": out_of_memory}, namespace="")
        for namespace in (api.namespace, "", "a b"):
            envelope = {"timestamp": {"seconds": 1000}, "namespace": namespace, "topic": "/f/w", "event": out_of_memory}
            await api.say("Events", "Forward", {"envelope": envelope})
    await api.say("Events", "Subscribe", {"filters": ["topic=x"]})


async def tasks(api: Api) -> None:
    rootfs = _rootfs(api.core.scratch)
    process = {"user": {"uid": 0, "gid": 0}, "args": ["sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/"}
    document = {
        "ociVersion": "1.0.2", "process": process, "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]},
    }  # fmt: skip

    async def say(method: str, name: str = "c", **body: Any) -> None:
        await api.say("Tasks", method, {"container_id": name, **body})

    def exec_spec(*arguments: str) -> dict[str, Any]:
        return {"type_url": "t", "value": json.dumps(process | {"args": arguments}).encode()}

    await api.call("Containers", "Create", container("p", spec=spec(**document)))
    await _life(api, rootfs, exec_spec("sleep"))
    verbs = ("Start", "Delete", "Get", "Pause", "Resume", "ListPids", "Wait", "CloseIO", "ResizePty", "Checkpoint")
    for verb in verbs:
        await say(verb, "none")
    await api.call("Containers", "Create", container("c", spec=spec(**document)))
    for verb in verbs:
        await say(verb)
    async with api.listening(until="/tasks/exit"):
        await say("Create", rootfs=rootfs)
        await say("Create", rootfs=rootfs)
        for verb in ("Get", "Pause", "Resume", "CloseIO", "ResizePty"):
            await say(verb)
        for verb in ("Start", "Get", "Kill", "Wait", "ResizePty", "CloseIO", "DeleteProcess"):
            await say(verb, exec_id="none")
        for verb in ("Start", "Start", "Get", "Delete", "ResizePty", "Resume"):
            await say(verb)
        for name in ("", "a b", "e", "e"):
            await say("Exec", exec_id=name, spec=exec_spec("sleep", "1000"))
        await say("Get", exec_id="e")
        await say("Kill", exec_id="e", signal=9)
        for verb in ("Start", "Start", "Get", "DeleteProcess"):
            await say(verb, exec_id="e")
        await say("Kill", exec_id="e", signal=9)
        for verb in ("Wait", "Wait", "Get", "Start", "DeleteProcess", "DeleteProcess"):
            await say(verb, exec_id="e")
    # A shim of 2.1 that had execs breaks at the end of its task, and is gone with it.
    for method, body in (("Kill", {"signal": 9}), ("Wait", {}), ("Delete", {})):
        with suppress(GRPCError):
            await api.call("Tasks", method, {"container_id": "c", **body})
    for number, wrong in enumerate(
        ({"stdout": "/none/fifo"}, {"stdout": "bogus://x"}, {"options": {"type_url": "no.Type", "value": b"x"}},
         {"checkpoint": {"media_type": "m", "digest": HERE, "size": 1}}),
    ):  # fmt: skip
        await api.call("Containers", "Create", container(f"w{number}", spec=spec(**document)))
        await say("Create", f"w{number}", rootfs=rootfs, **wrong)
        await say("Get", f"w{number}")
    await api.call("Containers", "Create", container("d", spec=spec(**document)))
    await say("Create", "d", rootfs=rootfs)
    await say("Delete", "d")
    for runtime in ("io.containerd.none.v1", "none", "/none/shim"):
        name = f"r{len(runtime)}"
        await api.call("Containers", "Create", container(name, runtime={"name": runtime}))
        if runtime != "none":  # its text names another example in each version
            await say("Create", name, rootfs=rootfs)


async def _life(api: Api, rootfs: list[dict[str, Any]], process: dict[str, Any]) -> None:
    """Of container `p`: paused, killed, stopped, and every verb in each."""

    async def say(method: str, **body: Any) -> None:
        await api.say("Tasks", method, {"container_id": "p", **body})

    async with api.listening(until="/tasks/delete"):
        await say("Create", rootfs=rootfs)
        for verb in ("Start", "Pause", "Pause", "Get", "Start", "Delete", "Resume"):
            await say(verb)
        await say("Kill", signal=9)
        for verb in ("Wait", "Get", "Start", "Pause", "Resume", "ListPids", "CloseIO", "ResizePty", "Checkpoint"):
            await say(verb)
        await say("Kill", signal=9)
        await say("Exec", exec_id="g", spec=process)
        await say("Delete")
        await say("Delete")


def _rootfs(scratch: str) -> list[dict[str, Any]]:
    directory = f"{scratch}/rootfs"
    if not os.path.isdir(directory):
        os.makedirs(f"{directory}/bin")
        os.makedirs(f"{directory}/proc")
        shutil.copy("/bin/busybox", f"{directory}/bin/sleep")
    return [{"type": "bind", "source": directory, "options": ["rbind", "rw"]}]


async def sandboxes(api: Api) -> None:
    one = {"sandbox_id": "s", "runtime": {"name": "r"}, "labels": {"a": "b"}, "sandboxer": "x"}
    await api.say("Store", "Create", {"sandbox": one | {"sandbox_id": "a b"}})
    await api.say("Store", "Create", {"sandbox": one})
    await api.say("Store", "Create", {"sandbox": one})
    for text in ("id==s", "runtime.name==r", "labels.a==b", "nothing", "id=s"):
        await api.say("Store", "List", {"filters": [text]})
    for field in ("labels", "labels.a", "spec", "runtime", "nothing"):
        await api.say("Store", "Update", {"sandbox": one | {"labels": {"a": "1"}, "spec": spec()}, "fields": [field]})
    for method in ("Get", "Delete", "Delete", "Get"):
        await api.say("Store", method, {"sandbox_id": "s"})


SCRIPTS: tuple[Callable[[Api], Awaitable[None]], ...] = (
    containers, filters, images, content, writes, leases, snapshots, layers, namespaces, collections, events, tasks,
    sandboxes,
)  # fmt: skip


_ATTEMPTS = itertools.count()


@pytest.fixture(scope="module")
def cores(machine: Machine, scratch: str) -> Iterator[tuple[Core, Core]]:
    """containerd 2.1 and ours, running."""
    tools = newer_tools(scratch)
    if not tools:
        leave_out("needs containerd 2.1 (scripts/peers)")
    both = (Containerd(machine, f"{scratch}/ra", tools), SampanContainerd(machine, f"{scratch}/sa", tools))
    for core in both:
        core.start()
    yield both
    for core in both:
        core.stop()


def transcript(core: Core, script: Callable[[Api], Awaitable[None]], namespace: str) -> list[str]:
    async def run() -> list[str]:
        channel = Channel(path=core.address)
        try:
            api = Api(core, channel, namespace)
            await script(api)
            return api.said
        finally:
            channel.close()

    return asyncio.run(run())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_any_client_hears_the_same_from_both(
    script: Callable[[Api], Awaitable[None]], cores: tuple[Core, Core]
) -> None:
    # Another namespace for each attempt.
    namespace = f"api-{script.__name__}-{next(_ATTEMPTS)}"
    reference, seen = (transcript(core, script, namespace) for core in cores)
    difference = list(difflib.unified_diff(reference, seen, "containerd", "sampan", lineterm="", n=0))
    assert not difference, "\n".join(difference)
    assert reference
