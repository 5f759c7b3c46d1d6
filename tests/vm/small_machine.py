"""A small machine with pure cgroup v2: Debian's cloud kernel in qemu's software emulation, an ext4 root of our making.

    build(): busybox + this interpreter + its libraries + the tree under test  ->  root.ext4  (mkfs.ext4 -d)
             busybox + the modules that find the disk                          ->  initrd
    run(command): boots, mounts /proc /sys /sys/fs/cgroup (cgroup2 alone), runs the command, prints
             its output and a last line `vm exit N` on the serial console, powers off.

The emulated CPU is about ten times slower than the host's: what runs here is chosen, not everything.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import sysconfig

KERNEL_PACKAGE = "linux-image-cloud-amd64"
CACHE = os.path.expanduser("~/.cache/sampan-tests/vm")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Needed before there is a root file system; and after it.
DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
LATER_MODULES = (
    "overlay", "veth", "bridge", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_fib_ipv4",
    "nft_fib_inet", "tun",
)  # fmt: skip
# Parts of the standard library that no test in the machine imports and that are most of its size.
LEFT_OUT = (
    "test",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "config-*",
    "site-packages",
    "pydoc_data",
)
SITE_PACKAGES = (
    "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis", "sortedcontainers",
    "aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "frozenlist", "idna", "isal", "msgspec", "multidict",
    "propcache", "yarl", "zstandard",
)  # fmt: skip

# What an installation puts beside the interpreter.
CONSOLE_SCRIPT = """#!/usr/bin/python3
from sampan.runtime.__main__ import main
main()
"""

INITRD_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
until [ -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /new
exec /bin/busybox switch_root /new /init
"""

ROOT_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/pts /dev/shm /dev/mqueue
/bin/busybox mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
/bin/busybox mount -t tmpfs shm /dev/shm
/bin/busybox mount -t mqueue mqueue /dev/mqueue
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
/bin/busybox mount -t tmpfs run /run
/bin/busybox ip link set lo up
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
# Off the root cgroup, as on a host with an init system: the no-internal-process rule holds for its children.
/bin/busybox mkdir /sys/fs/cgroup/init
echo $$ > /sys/fs/cgroup/init/cgroup.procs
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/site:/tree/src:/tree
cd /tree
/bin/busybox sh /command < /dev/null > /dev/ttyS0 2>&1
echo "vm exit $?" > /dev/ttyS0
/bin/busybox sync
/bin/busybox poweroff -f
"""


def kernel() -> tuple[str, str]:
    """(vmlinuz, modules directory) of Debian's cloud kernel, unpacked into a cache, not installed."""
    top = f"{CACHE}/kernel"
    if not glob.glob(f"{top}/boot/vmlinuz-*"):
        os.makedirs(CACHE, exist_ok=True)
        shown = subprocess.run(["apt-cache", "depends", KERNEL_PACKAGE], capture_output=True, text=True, check=True)
        names = re.findall(r"Depends: (linux-image-\S+)", shown.stdout)
        subprocess.run(["apt-get", "download", "-q", names[0]], cwd=CACHE, check=True, capture_output=True)
        package = glob.glob(f"{CACHE}/{names[0]}_*.deb")[0]
        subprocess.run(["dpkg", "-x", package, top], check=True)
        os.unlink(package)
    return glob.glob(f"{top}/boot/vmlinuz-*")[0], glob.glob(f"{top}/lib/modules/*")[0]


def module_files(modules: str, wanted: tuple[str, ...]) -> list[str]:
    """Paths of the modules and what they depend on, dependencies first. A name that is built in is left out."""
    path_of, text_of = {}, {}
    for path in glob.glob(f"{modules}/kernel/**/*.ko", recursive=True):
        path_of[os.path.basename(path)[:-3].replace("-", "_")] = path
    order: list[str] = []

    def add(name: str) -> None:
        path = path_of.get(name)
        if path is None or path in order:
            return
        if name not in text_of:
            with open(path, "rb") as file:
                found = re.search(rb"\0depends=([^\0]*)\0", b"\0" + file.read())
            text_of[name] = found[1].decode() if found else ""
        for other in filter(None, text_of[name].split(",")):
            add(other.replace("-", "_"))
        order.append(path)

    for name in wanted:
        add(name)
    return order


def _put_modules(top: str, files: list[str]) -> None:
    os.makedirs(f"{top}/modules")
    for path in files:
        shutil.copy(path, f"{top}/modules/")
    with open(f"{top}/modules/order", "w") as file:
        file.write("\n".join(os.path.basename(path) for path in files))


def _put_script(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)


def libraries_of(paths: list[str]) -> set[str]:
    """Shared libraries that the programs and extension modules load, with the loader itself."""
    found = set()
    for path in paths:
        shown = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
        found |= set(re.findall(r"(/\S+\.so\S*)", shown.stdout))
    return found


def _put_interpreter(top: str) -> None:
    """The running interpreter, its standard library and the kept part of site-packages, at their own paths."""
    real = os.path.realpath(sys.executable)
    stdlib = sysconfig.get_path("stdlib")
    shutil.copytree(stdlib, top + stdlib, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT, "*.a", "*.whl"))
    os.makedirs(os.path.dirname(top + real), exist_ok=True)
    shutil.copy(real, top + real)
    os.makedirs(f"{top}/usr/bin", exist_ok=True)
    os.symlink(real, f"{top}/usr/bin/python3")
    _put_script(f"{top}/usr/bin/sampan-runc", CONSOLE_SCRIPT)
    site = os.path.dirname(os.path.dirname(__import__("pytest").__file__))
    shared = glob.glob(f"{stdlib}/lib-dynload/*.so")
    for name in SITE_PACKAGES:
        shared += glob.glob(f"{site}/{name}/**/*.so", recursive=True)
    for library in libraries_of([real, *shared]):
        os.makedirs(os.path.dirname(top + library), exist_ok=True)
        shutil.copy(library, top + library)
    for name in SITE_PACKAGES:
        if os.path.isdir(f"{site}/{name}"):
            shutil.copytree(f"{site}/{name}", f"{top}/site/{name}")
    for name in ("py.py", "typing_extensions.py"):
        shutil.copy(f"{site}/{name}", f"{top}/site/{name}")
    for path in glob.glob(f"{site}/*pytest*.dist-info"):
        shutil.copytree(path, f"{top}/site/{os.path.basename(path)}")


def build(scratch: str, command: str) -> tuple[str, str, str]:
    """(kernel, initrd, disk) of a machine that runs the shell `command` in the tree under test."""
    vmlinuz, modules = kernel()
    for top in (f"{scratch}/initrd", f"{scratch}/root"):
        os.makedirs(f"{top}/bin")
        shutil.copy("/bin/busybox", f"{top}/bin/busybox")
    _put_modules(f"{scratch}/initrd", module_files(modules, DISK_MODULES))
    _put_script(f"{scratch}/initrd/init", INITRD_INIT)
    top = f"{scratch}/root"
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "root", "var/tmp", "sbin"):
        os.makedirs(f"{top}/{name}")
    with open(f"{top}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    with open(f"{top}/etc/group", "w") as file:
        file.write("root:x:0:\n")
    for applet in (
        "sh",
        "echo",
        "mount",
        "umount",
        "ls",
        "cat",
        "true",
        "false",
        "sleep",
        "ip",
        "id",
        "ps",
        "env",
        "grep",
        "unshare",
    ):
        os.symlink("busybox", f"{top}/bin/{applet}")
    _put_modules(top, module_files(modules, LATER_MODULES))
    _put_script(f"{top}/init", ROOT_INIT)
    _put_script(f"{top}/command", command)
    _put_interpreter(top)
    for name in ("src", "tests", "pyproject.toml"):
        source, target = f"{REPOSITORY}/{name}", f"{top}/tree/{name}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy(source, target)
    disk, initrd = f"{scratch}/root.ext4", f"{scratch}/initrd.cpio"
    subprocess.run(["truncate", "-s", "1500M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", top, disk], check=True, capture_output=True)
    with open(initrd, "wb") as out:
        listing = subprocess.run(["find", "."], cwd=f"{scratch}/initrd", capture_output=True, check=True).stdout
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=f"{scratch}/initrd", input=listing, stdout=out, check=True
        )
    return vmlinuz, initrd, disk


def run(scratch: str, command: str, seconds: int) -> tuple[int, str]:
    """Boot a fresh machine, run the shell `command` in /tree; (its exit status, the console's text).

    subprocess.TimeoutExpired when it is not done in `seconds`."""
    vmlinuz, initrd, disk = build(scratch, command)
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-no-reboot",
        "-monitor", "none", "-serial", "stdio", "-nic", "none", "-kernel", vmlinuz, "-initrd", initrd,
        "-drive", f"file={disk},format=raw,if=virtio",
        "-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all mitigations=off",
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    text = done.stdout.decode(errors="replace").replace("\r\n", "\n")
    ending = re.search(r"^vm exit (\d+)$", text, re.M)
    if ending is None:
        raise AssertionError(f"the machine ended early:\n{text[-3000:]}\n{done.stderr.decode(errors='replace')}")
    return int(ending[1]), text
