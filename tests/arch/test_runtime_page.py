"""docs/compat/runtime.md is true of the tree: complete in fields and flags, and every test it names exists."""

from __future__ import annotations

import glob
import os
import re

import pytest

from sampan.runtime.cli import GLOBAL
from sampan.runtime.verbs import VERBS

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The members of the runtime-spec 1.2's Spec, Process, Linux and resources objects, with 1.3's additions.
FIELDS = {
    "": "ociVersion annotations hostname domainname solaris windows vm zos freebsd",
    "hooks.": "prestart createRuntime createContainer startContainer poststart poststop",
    "root.": "path readonly",
    "mounts[].": "destination type source options uidMappings gidMappings",
    "process.": "args commandLine consoleSize cwd env terminal user.uid user.gid user.umask user.additionalGids "
    "capabilities apparmorProfile oomScoreAdj selinuxLabel ioPriority noNewPrivileges scheduler rlimits "
    "execCPUAffinity",
    "linux.": "devices netDevices uidMappings gidMappings namespaces cgroupsPath rootfsPropagation sysctl maskedPaths "
    "readonlyPaths mountLabel intelRdt memoryPolicy personality timeOffsets",
    "linux.resources.": "unified devices pids blockIO cpu hugepageLimits memory network rdma",
    "linux.seccomp.": "defaultAction defaultErrnoRet flags listenerPath listenerMetadata architectures syscalls",
}


def page() -> str:
    with open(f"{REPOSITORY}/docs/compat/runtime.md") as file:
        return file.read()


def existing_tests() -> set[str]:
    found: set[str] = set()
    for path in glob.glob(f"{REPOSITORY}/tests/**/test_*.py", recursive=True):
        with open(path) as file:
            found.update(re.findall(r"def test_(\w+)", file.read()))
    return found


def test_every_field_of_the_spec_has_a_row() -> None:
    words = set(re.findall(r"[\w.\[\]]+", page()))
    missing = [f"{where}{name}" for where, names in FIELDS.items() for name in names.split()
               if f"{where}{name}" not in words]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_and_flag_has_a_row(verb: str) -> None:
    rows = [row for row in page().split("\n") if row.startswith("|") and (not verb or f"`{verb}`" in row)]
    assert rows
    text = "\n".join(rows)
    flags = VERBS[verb].flags if verb else GLOBAL
    names = [next(name for name in flag.names if len(name) > 1) for flag in flags]
    assert [name for name in names if f"`--{name}`" not in text] == []


def test_every_test_it_names_exists() -> None:
    tests = existing_tests()
    named = {name for row in page().split("\n") if row.startswith("|")
             for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", row)}  # fmt: skip
    assert len(named) > 60
    assert sorted(named - tests - {"runtime_supports_json"}) == []


def test_every_case_it_names_exists() -> None:
    with open(f"{REPOSITORY}/tests/linux/test_runtime_fields.py") as file:
        cases = set(re.findall(r'^    "([^"]+)": Field\(', file.read(), re.MULTILINE))
    named = set(
        re.findall(r"\[((?:process|root|hostname|domainname|mounts\[\]|linux|annotations)[^|\]]*)\](?!\))", page())
    )
    assert named - cases <= {"mounts[3"}, named - cases
    assert len(named & cases) > 30
