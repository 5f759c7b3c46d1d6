"""A small machine with pure cgroup v2: Debian's cloud kernel in qemu's software emulation, an ext4 root of our making.

    build(): busybox + this interpreter + its libraries + the tree under test  ->  root.ext4  (mkfs.ext4 -d)
             busybox + the modules that find the disk                          ->  initrd
    run(command): boots, mounts /proc /sys /sys/fs/cgroup (cgroup2 alone), runs the command, prints
             its output and a last line `vm exit N` on the serial console, powers off.
    run(command, systemd="unified" or "legacy"): the same with the host's own systemd as process 1, which mounts
             cgroup v2 or v1, with the system's bus and, for user 1000, a manager and a bus of his own.

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
    "aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "dnslib", "frozenlist", "idna", "isal", "msgspec",
    "multidict", "propcache", "yarl", "zstandard",
)  # fmt: skip

# Debian's runc goes first in the tests that compare.
PEERS = ("/usr/sbin/runc", "/usr/bin/setpriv")

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
/bin/busybox mkdir -p /dev/pts /dev/shm
/bin/busybox mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
/bin/busybox mount -t tmpfs shm /dev/shm
/bin/busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
/bin/busybox mount -t tmpfs run /run
/bin/busybox ip link set lo up
# Off the root cgroup, as on a host with an init system: the no-internal-process rule holds for its children.
/bin/busybox mkdir /sys/fs/cgroup/init
echo $$ > /sys/fs/cgroup/init/cgroup.procs
exec /session
"""

# What the machine is for, in either kind.
SESSION = """#!/bin/busybox sh
/bin/busybox mkdir -p /dev/mqueue
[ -e /dev/fd ] || /bin/busybox ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || /bin/busybox ln -s /proc/self/fd/0 /dev/stdin
/bin/busybox mount -t mqueue mqueue /dev/mqueue
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
export SMALL_MACHINE=yes PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export SAMPAN_RUNC=/usr/bin/sampan-runc PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/site:/tree/src:/tree
cd /tree
/bin/busybox sh /command < /dev/null > /dev/ttyS0 2>&1
echo "vm exit $?" > /dev/ttyS0
/bin/busybox sync
/bin/busybox poweroff -f
"""

SYSTEMD_PROGRAMS = (
    "/lib/systemd/systemd", "/lib/systemd/systemd-executor", "/usr/bin/systemctl", "/usr/bin/busctl",
    "/usr/bin/systemd-run", "/usr/bin/dbus-daemon",
)  # fmt: skip
# Who has runtimes use systemd.
CALLERS = ("/usr/bin/podman", "/usr/bin/conmon", "/usr/bin/containerd", "/usr/bin/ctr",
           "/usr/bin/containerd-shim-runc-v2")  # fmt: skip
SYSTEMD_FILES = (
    "/etc/containers/policy.json", "/etc/containers/registries.conf", "/usr/share/containers/containers.conf",
    "/usr/share/dbus-1/system.conf", "/usr/share/dbus-1/session.conf",
    "/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf",
    "/usr/share/dbus-1/system-services/org.freedesktop.systemd1.service",
)  # fmt: skip
# The least that makes a system with a bus; without DefaultDependencies nothing of a whole boot is waited for.
UNITS = {
    "default.target": "[Unit]\nDefaultDependencies=no\nRequires=session.service user@1000.service dbus.socket\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": """[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --nosyslog
""",
    "user@1000.service": """[Unit]
DefaultDependencies=no
[Service]
User=1000
Type=notify
Delegate=cpu memory pids
Slice=user-1000.slice
Environment=XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus
ExecStartPre=+/bin/busybox sh -c 'mkdir -p /run/user/1000; chmod 700 /run/user/1000; chown 1000:1000 /run/user/1000'
ExecStart=/lib/systemd/systemd --user
""",
    "session.service": """[Unit]
DefaultDependencies=no
After=dbus.socket user@1000.service
[Service]
Type=oneshot
Delegate=yes
ExecStart=/session
""",
}
USER_UNITS = {
    "default.target": "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n",
    "dbus.service": """[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation --nosyslog
""",
}
CGROUPS = {
    "": "cgroup_no_v1=all",
    "unified": "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
    "legacy": "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1",
}


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
    # As an installation has them: the command beside the interpreter, the package in its library.
    shutil.copy(f"{REPOSITORY}/bin/sampan-runc", f"{top}/usr/bin/")
    packages = f"{top}/usr/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    os.makedirs(packages)
    os.symlink("/tree/src/sampan", f"{packages}/sampan")
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
    for name in ("py.py", "typing_extensions.py", "pytest_rerunfailures.py"):
        shutil.copy(f"{site}/{name}", f"{top}/site/{name}")
    for path in glob.glob(f"{site}/*pytest*.dist-info"):
        shutil.copytree(path, f"{top}/site/{os.path.basename(path)}")


def _put_programs(top: str, programs: tuple[str, ...]) -> None:
    """Programs of the host with their libraries, at their own paths; one that the host has not is left out."""
    present = [path for path in programs if os.path.exists(path)]
    for path in [*present, *libraries_of(present)]:
        os.makedirs(os.path.dirname(top + path), exist_ok=True)
        shutil.copy(path, top + path)


def _put_systemd(top: str) -> None:
    _put_programs(top, (*SYSTEMD_PROGRAMS, *CALLERS))
    for path in SYSTEMD_FILES:
        if not os.path.exists(path):
            continue  # another version keeps it elsewhere, or needs none
        os.makedirs(os.path.dirname(top + path), exist_ok=True)
        shutil.copy(path, top + path)
    for folder, units in (("system", UNITS), ("user", USER_UNITS)):
        os.makedirs(f"{top}/etc/systemd/{folder}")
        for name, text in units.items():
            with open(f"{top}/etc/systemd/{folder}/{name}", "w") as file:
                file.write(text)
    os.symlink("/lib/systemd/systemd", f"{top}/sbin/init")
    _put_script(f"{top}/init", "#!/bin/busybox sh\nexec /sbin/init\n")


def _compile(top: str) -> None:
    """Byte code for all of the tree: nothing is compiled over and over in there, where it takes seconds."""
    words = [
        "-q",
        "-j",
        "2",
        "-s",
        top,
        "--invalidation-mode",
        "unchecked-hash",
        f"{top}/tree/src",
        f"{top}/tree/tests",
    ]
    subprocess.run([sys.executable, "-m", "compileall", *words], check=True, capture_output=True)


def build(scratch: str, command: str, systemd: bool = False) -> tuple[str, str, str]:
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
        file.write("root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nsailor:x:1000:1000::/:/bin/sh\n")
    with open(f"{top}/etc/group", "w") as file:
        file.write("root:x:0:\nmessagebus:x:100:\nsailor:x:1000:\n")
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
    os.symlink("/run", f"{top}/var/run")
    _put_modules(top, module_files(modules, LATER_MODULES))
    _put_script(f"{top}/init", ROOT_INIT)
    _put_script(f"{top}/session", SESSION)
    _put_script(f"{top}/command", command)
    _put_interpreter(top)
    _put_programs(top, PEERS)
    if systemd:
        os.unlink(f"{top}/init")
        _put_systemd(top)
    for name in ("src", "tests", "pyproject.toml"):
        source, target = f"{REPOSITORY}/{name}", f"{top}/tree/{name}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.egg-info"))
        else:
            shutil.copy(source, target)
    _compile(top)
    disk, initrd = f"{scratch}/root.ext4", f"{scratch}/initrd.cpio"
    subprocess.run(["truncate", "-s", "1500M", disk], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", top, disk], check=True, capture_output=True)
    with open(initrd, "wb") as out:
        listing = subprocess.run(["find", "."], cwd=f"{scratch}/initrd", capture_output=True, check=True).stdout
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=f"{scratch}/initrd", input=listing, stdout=out, check=True
        )
    return vmlinuz, initrd, disk


def run(scratch: str, command: str, seconds: int, systemd: str = "") -> tuple[int, str]:
    """Boot a fresh machine, run the shell `command` in /tree; (its exit status, the console's text).

    `systemd` is "" for none, or the cgroups it shall mount: "unified" or "legacy".

    subprocess.TimeoutExpired when it is not done in `seconds`."""
    vmlinuz, initrd, disk = build(scratch, command, bool(systemd))
    argv = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-no-reboot",
        "-monitor", "none", "-serial", "stdio", "-nic", "none", "-kernel", vmlinuz, "-initrd", initrd,
        "-drive", f"file={disk},format=raw,if=virtio",
        "-append", f"console=ttyS0 quiet panic=-1 mitigations=off {CGROUPS[systemd]}",
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    text = done.stdout.decode(errors="replace").replace("\r\n", "\n")
    ending = re.search(r"^vm exit (\d+)$", text, re.M)
    if ending is None:
        raise AssertionError(f"the machine ended early:\n{text[-3000:]}\n{done.stderr.decode(errors='replace')}")
    return int(ending[1]), text
