"""CVE-2025-31133, CVE-2025-52565: the files the runtime itself puts over others, /dev/null and the terminal, swapped.

A createContainer hook runs in the container's mount namespace after its /dev is made and before it is entered, so it
does surely what a second container on a shared mount can do with luck.
"""

from __future__ import annotations

import os
import stat

import pytest
from tests.peers.runtimes import ConsoleSocket, Runtime, read_until_closed

SWAPS = {
    "symlink": "rm -f $ROOTFS/dev/null; ln -s /etc/bait $ROOTFS/dev/null",
    "file": "rm -f $ROOTFS/dev/null; echo bait > $ROOTFS/dev/null",
    "other device": "rm -f $ROOTFS/dev/null; mknod $ROOTFS/dev/null c 1 5",
    "bind": "mount --bind $ROOTFS/etc/bait $ROOTFS/dev/null",
    "missing": "rm -f $ROOTFS/dev/null",
}
LOOK = "[ -c /proc/timer_list ] && echo device || head -c 20 /proc/timer_list; stat -c %t:%T /proc/timer_list"
HIDDEN = "started\ndevice\n1:3\n"
VULNERABLE = ("symlink", "file", "other device", "bind")
"""With these runc 1.1.5 starts, and binds whatever /dev/null is or leads to over the masked path, and over the standard
streams too, when it is a regular file (mended in 1.2.8). Without one it does not start."""


@pytest.mark.parametrize("swap", SWAPS)
def test_a_mask_is_the_null_device_or_the_container_does_not_start(runtime: Runtime, swap: str) -> None:
    bundle = runtime.bundle().hook("createContainer", SWAPS[swap])
    with open(f"{bundle.rootfs}/etc/bait", "w") as file:
        file.write("bait\n")
    done = runtime.run(bundle.shell(f"echo started; {LOOK}"))
    if runtime.is_known_runc and swap in VULNERABLE:
        assert done.status == 0
        assert done.out != HIDDEN, "the attack is real"
    elif done.status == 0:
        assert done.out == HIDDEN
    else:
        assert done.status == 1
        assert "/dev/null" in done.err or "mask" in done.err


@pytest.mark.parametrize("bait", ["symlink", "file", "dangling"])
def test_a_dev_that_comes_with_the_image_cannot_unmask_either(runtime: Runtime, bait: str) -> None:
    """Without a mount on /dev the image's own /dev/null stands there already. runc 1.1.5 takes it: vulnerable."""
    bundle = runtime.bundle().without_mount("/dev", "/dev/pts", "/dev/shm")
    with open(f"{bundle.rootfs}/etc/bait", "w") as file:
        file.write("bait\n")
    if bait == "file":
        with open(f"{bundle.rootfs}/dev/null", "w") as file:
            file.write("bait\n")
    else:
        os.symlink("/etc/bait" if bait == "symlink" else "/nowhere", f"{bundle.rootfs}/dev/null")
    done = runtime.run(bundle.shell(f"echo started; {LOOK}"))
    if runtime.is_known_runc and bait != "dangling":
        assert done.status == 0
        assert done.out != HIDDEN, "the attack is real"
    elif done.status == 0:
        assert done.out == HIDDEN


@pytest.mark.parametrize("way", ["hook", "image"])
def test_the_terminal_is_not_mounted_through_a_symlink(runtime: Runtime, scratch: str, way: str) -> None:
    """runc 1.1.5 binds the pty onto whatever /dev/console leads to, before the masks are made: vulnerable."""
    bundle = runtime.bundle()
    with open(f"{bundle.rootfs}/etc/target", "w") as file:
        file.write("untouched\n")
    if way == "hook":
        bundle.hook("createContainer", "ln -s /etc/target $ROOTFS/dev/console")
    else:
        bundle.without_mount("/dev", "/dev/shm")
        os.symlink("/etc/target", f"{bundle.rootfs}/dev/console")
    bundle.spec["process"]["terminal"] = True
    bundle.shell("[ -c /etc/target ] && echo redirected || cat /etc/target")
    with ConsoleSocket(f"{scratch}/console.sock") as console:
        done = runtime.run(bundle, "--detach", "--console-socket", console.path)
        text = ""
        if done.status == 0:
            _, master = console.master()
            text = read_until_closed(master)
    if runtime.is_known_runc:
        assert text == "redirected\n"
    else:
        assert done.status == 1
        assert "/dev/console" in done.err
        assert text == ""


def test_an_ordinary_terminal_is_on_dev_console(runtime: Runtime, scratch: str) -> None:
    """The control: without the trick the same container starts, and the pty is where it belongs."""
    bundle = runtime.bundle()
    bundle.spec["process"]["terminal"] = True
    bundle.shell("[ -c /dev/console ] && tty && stat -c %t /dev/console")
    with ConsoleSocket(f"{scratch}/console.sock") as console:
        assert runtime.run(bundle, "--detach", "--console-socket", console.path).status == 0
        _, master = console.master()
        assert stat.S_ISCHR(os.fstat(master).st_mode)
        assert read_until_closed(master) == "/dev/pts/0\n88\n"
