"""The filter compiler: a profile is refused with its field's path, or becomes a program that the kernel would take."""

from __future__ import annotations

import json
import struct
from random import Random

from fuzz.documents import document
from fuzz.mutation import bytes_of_json
from sampan import errors
from sampan.oci import spec
from sampan.runtime import seccomp

SEEDS = [json.dumps(document(name)["linux"]["seccomp"]).encode() for name in ("docker", "podman", "everything")]
ERRORS = (errors.InvalidArgument,)


def mutate(data: bytes, random: Random) -> bytes:
    """Values, and in the end a JSON text again."""
    while True:
        made = bytes_of_json(data, random)
        try:
            json.loads(made)
        except ValueError:
            continue
        return made


def feed(data: bytes, random: Random) -> None:
    """For both machines."""
    profile = json.loads(data)
    try:
        spec.check(profile, spec.SECCOMP, "linux.seccomp")
        seccomp.load_flags(profile)
        for machine in ("x86_64", "aarch64"):
            check_program(seccomp.compile_profile(profile, machine))
    except errors.InvalidArgument as refusal:
        assert str(refusal).startswith("linux.seccomp"), refusal
        raise


def check_program(program: bytes) -> None:
    """What the kernel's bpf_check_classic and seccomp_check_filter ask of a filter."""
    code = list(struct.iter_unpack("=HBBI", program))
    assert 0 < len(code) <= 4096
    for place, (operation, on_true, on_false, k) in enumerate(code):
        left = len(code) - place - 1
        assert operation in (0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35), hex(operation)
        if operation == 0x20:
            assert k % 4 == 0 and k < 64
        elif operation == 0x05:
            assert k < left
        elif operation in (0x15, 0x25, 0x35):
            assert max(on_true, on_false) < left
    assert code[-1][0] == 0x06
