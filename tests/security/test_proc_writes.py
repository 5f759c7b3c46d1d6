"""CVE-2025-52881 (and CVE-2019-16884's second half): what the runtime writes to /proc must arrive in /proc.

The createContainer hook stands for the winner of the race: it covers a file of the container's /proc with one of the
attacker's after the mounts are made and before the runtime writes to it.
"""

from __future__ import annotations

import os
import re
import subprocess

from tests.peers.runtimes import Runtime

KEY, FILE = "net.ipv4.ip_default_ttl", "/proc/sys/net/ipv4/ip_default_ttl"


def test_a_covered_sysctl_is_written_all_the_same(runtime: Runtime) -> None:
    """runc 1.1.5 writes the attacker's file instead of the sysctl: vulnerable (mended in 1.2.8)."""
    bundle = runtime.bundle().hook("createContainer", f"mount --bind $ROOTFS/etc/decoy $ROOTFS{FILE}")
    decoy = f"{bundle.rootfs}/etc/decoy"
    with open(decoy, "w") as file:
        file.write("decoy")
    bundle.spec["linux"]["sysctl"] = {KEY: "77"}
    bundle.spec["linux"]["readonlyPaths"] = []
    for kind in ("bounding", "effective", "permitted"):
        bundle.spec["process"]["capabilities"][kind] = ["CAP_SYS_ADMIN"]
    done = runtime.run(bundle.shell(f"umount {FILE}; cat {FILE}"))
    with open(decoy) as file:
        content = file.read()
    if runtime.is_known_runc:
        assert content.startswith("77")
        assert done.out == "64\n"
    else:
        assert content == "decoy"
        assert done.out == "77\n", done


def test_a_sysctl_symlinked_elsewhere_is_not_followed(runtime: Runtime) -> None:
    """/proc/sys covered by a directory of the attacker's with a symlink to something that must not be written."""
    bundle = runtime.bundle()
    os.makedirs(f"{bundle.rootfs}/fake/net/ipv4")
    os.symlink("/etc/victim", f"{bundle.rootfs}/fake/net/ipv4/ip_default_ttl")
    with open(f"{bundle.rootfs}/etc/victim", "w") as file:
        file.write("victim")
    bundle.hook("createContainer", "mount --bind $ROOTFS/fake $ROOTFS/proc/sys")
    bundle.spec["linux"]["sysctl"] = {KEY: "77"}
    bundle.spec["linux"]["readonlyPaths"] = []
    runtime.run(bundle.shell("true"))
    with open(f"{bundle.rootfs}/etc/victim") as file:
        content = file.read()
    assert content.startswith("77") if runtime.is_known_runc else content == "victim"


def test_everything_written_to_proc_goes_below_a_descriptor(sampan: Runtime) -> None:
    """Ours, traced: after the root is the container's no absolute path below /proc is opened for writing."""
    bundle = sampan.bundle()
    bundle.spec["linux"]["sysctl"] = {KEY: "77"}
    bundle.spec["process"]["oomScoreAdj"] = 500
    trace = f"{sampan.scratch}/trace"
    argv = sampan.argv("run", "--bundle", bundle.command("true").path, "one")
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", trace, *argv], check=True)
    with open(trace) as file:
        written = [line for line in file if re.search(r"O_WRONLY|O_RDWR", line) and '"/proc/' in line]
    assert written == []
    with open(trace) as file:
        assert f'"{FILE[6:]}"' in file.read(), "the trace has seen the sysctl being written"
