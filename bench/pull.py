"""Pull and unpack: sampan with overlayfs and with erofs, and Debian's containerd by its ctr.

    python -m bench.pull [ROUNDS] [FILES]          as root, for some twenty seconds a round

Two images, made here and pushed to a docker-registry on loopback: FILES files in four layers, and a Debian of
debootstrap's minbase in one (the scenario tests' own, kept in their cache). Each run has its root on a new ext4 of its
own, in a file in $TMPDIR; before it everything is synced and the caches are dropped. Interleaved. Prints a table on
stderr and one JSON document: {image: {name: {"wall": [s, …], "cpu": [s of all its processes, …]}}}, and of ours how
long a second pull and the removal take.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from tests.contract.layers import directory, file, layer
from tests.peers.images import debian_tar

from bench.disk import fresh_disk
from sampan.containerd.core import open_core
from sampan.containerd.services import Credentials, Tasks
from sampan.oci import digest

_LAYERS = 4
_TYPE = "application/vnd.oci.image."

Figures = dict[str, dict[str, dict[str, list[float]]]]


def _many_files(files: int) -> Iterator[bytes]:
    """Layers: files of 0 to 8 kB, some larger, in directories of 50."""
    chance = random.Random(7)
    words = [bytes(chance.choices(b"abcdefghij \n", k=64)) for _ in range(200)]
    for number in range(_LAYERS):
        members = []
        for i in range(files // _LAYERS):
            if i % 50 == 0:
                members.append(directory(f"l{number}/d{i // 50}"))
            size = chance.choice((0, 5, 20, 60, 120, 500) if i % 100 == 0 else (0, 5, 20, 60, 100))
            members.append(file(f"l{number}/d{i // 50}/f{i}", b"".join(chance.choices(words, k=size)), mode=0o644))
        yield layer(directory(f"l{number}"), *members)


def _debian() -> Iterator[bytes]:
    with open(debian_tar(), "rb") as tar:
        yield tar.read()


def _image(path: str, layers: Iterable[bytes]) -> None:
    """An OCI layout of an image with these layers."""
    os.makedirs(f"{path}/blobs/sha256")

    def put(data: bytes, kind: str) -> dict[str, Any]:
        name = digest.of(data)
        with open(f"{path}/blobs/sha256/{name[7:]}", "wb") as out:
            out.write(data)
        return {"mediaType": _TYPE + kind, "digest": name, "size": len(data)}

    blobs, diff_ids = [], []
    for data in layers:
        diff_ids.append(digest.of(data))
        zipped = subprocess.run(["gzip", "-n", "-6"], input=data, capture_output=True, check=True).stdout
        blobs.append(put(zipped, "layer.v1.tar+gzip"))
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {"schemaVersion": 2, "mediaType": _TYPE + "manifest.v1+json", "layers": blobs,
                "config": put(json.dumps(config).encode(), "config.v1+json")}  # fmt: skip
    top = put(json.dumps(manifest).encode(), "manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(f"{path}/index.json", "w") as out:
        json.dump({"schemaVersion": 2, "manifests": [top]}, out)
    with open(f"{path}/oci-layout", "w") as out:
        json.dump({"imageLayoutVersion": "1.0.0"}, out)


async def _pull(reference: str, root: str, snapshotter: str) -> None:
    """In a process of its own: one pull, its figures on stdout."""
    core = await open_core(root, tasks=cast(Tasks, None), snapshotter=snapshotter)
    before = _cpu()
    began = time.perf_counter()
    image = await core.transfer.pull(
        reference, platform=None, credentials=Credentials(), progress=lambda progress: None
    )
    wall = time.perf_counter() - began
    cpu = _cpu() - before
    began = time.perf_counter()
    await core.transfer.pull(reference, platform=None, credentials=Credentials(), progress=lambda progress: None)
    again = time.perf_counter() - began
    began = time.perf_counter()
    core.images.delete(image.name)
    core.images.collect()
    while any(os.listdir(one.path) for one in os.scandir(f"{root}/snapshots/{snapshotter}") if one.name == "trash"):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    removal = time.perf_counter() - began
    print(json.dumps({"wall": wall, "cpu": cpu, "again": again, "removal": removal}))
    await core.close()


def _cpu() -> float:
    """Seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _sampan(reference: str, root: str, snapshotter: str) -> dict[str, float]:
    argv = [sys.executable, "-m", "bench.pull", "one", reference, root, snapshotter]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    return cast(dict[str, float], json.loads(done.stdout))


def _containerd(reference: str, root: str) -> dict[str, float]:
    """containerd shares /run/containerd whatever its --root: a mount namespace of its own hides it."""
    os.makedirs(root)
    with open(f"{root}/config.toml", "w") as out:
        out.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    address = f"{root}/sock"
    daemon = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", 'mkdir -p /run/containerd; mount -t tmpfs x /run/containerd && exec "$0" "$@"',
         "containerd", "--config", f"{root}/config.toml", "--address", address, "--root", f"{root}/root",
         "--state", f"{root}/state"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        ctr = ["ctr", "--address", address]
        _until(lambda: subprocess.run([*ctr, "version"], capture_output=True).returncode == 0)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run([*ctr, "images", "pull", "--plain-http", reference], stdout=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(f"/proc/{daemon.pid}/stat") as stat:
            ticks = sum(int(one) for one in stat.read().rpartition(")")[2].split()[11:15])
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + ticks / os.sysconf("SC_CLK_TCK")
        return {"wall": wall, "cpu": cpu}
    finally:
        daemon.terminate()
        daemon.wait()


def _until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("a peer did not start")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def main(rounds: int = 3, files: int = 20_000) -> None:
    scratch = tempfile.mkdtemp(prefix="sampan-pull-")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"version": 0.1, "log": {"level": "error"}, "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
                "storage": {"filesystem": {"rootdirectory": f"{scratch}/registry"}}}  # fmt: skip
    with open(f"{scratch}/registry.yml", "w") as out:
        json.dump(settings, out)  # JSON is YAML
    registry = subprocess.Popen(["docker-registry", "serve", f"{scratch}/registry.yml"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _until(lambda: _answers(port))
        figures: Figures = {}
        images = {"many": _many_files(files), "debian": _debian()}
        for image, layers in images.items():
            _image(f"{scratch}/layout-{image}", layers)
            subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
                            f"oci:{scratch}/layout-{image}:latest", f"docker://127.0.0.1:{port}/{image}:latest"],
                           check=True)  # fmt: skip
        for number in range(rounds):
            for image in images:
                for name in ("containerd", "overlayfs", "erofs"):
                    with fresh_disk(f"{scratch}/{image}-{name}-{number}") as disk:
                        run = _run(name, f"127.0.0.1:{port}/{image}:latest", f"{disk}/root")
                    for key, value in run.items():
                        figures.setdefault(image, {}).setdefault(name, {}).setdefault(key, []).append(round(value, 3))
        json.dump(figures, sys.stdout, indent=1)
        _report(figures)
    finally:
        registry.terminate()
        registry.wait()
        shutil.rmtree(scratch)


def _run(name: str, reference: str, root: str) -> dict[str, float]:
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as drop:
        drop.write("3")
    return _containerd(reference, root) if name == "containerd" else _sampan(reference, root, name)


def _report(figures: Figures) -> None:
    """Medians and minima, and each one's ratio to containerd, the first of each image."""
    print("\n| image | | wall s | min | of containerd (of min) | CPU s | of containerd |", file=sys.stderr)
    for image, each in figures.items():
        first = (1.0, 1.0, 1.0)
        for name, runs in each.items():
            found = (statistics.median(runs["wall"]), min(runs["wall"]), statistics.median(runs["cpu"]))
            first = found if name == "containerd" else first
            wall, least, cpu = (mine / theirs for mine, theirs in zip(found, first, strict=True))
            print(f"| {image} | {name} | {found[0]:.2f} | {found[1]:.2f} | {wall:.2f} ({least:.2f}) | {found[2]:.2f} "
                  f"| {cpu:.2f} |", file=sys.stderr)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        asyncio.run(_pull(*sys.argv[2:5]))
    else:
        main(*map(int, sys.argv[1:]))
