"""Device rules: the spec's list, completed as runc completes it, as v1's writes and as a v2 program. Pure.

A rule is (allow, type, major, minor, access): type "a", "c" or "b", major and minor -1 for all. The last rule that
matches decides, and what none matches is refused. Source: config-linux.md#allowed-device-list, cgroup-v1/devices.rst.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import DeviceRule

    Rule = tuple[bool, str, int, int, str]

# What every container gets after the spec's own rules: making nodes, the devices that the spec promises, and tun,
# which runc 1.2.0 took away and, so many had come to rely on it, 1.2.4 gave back.
ALWAYS: tuple[Rule, ...] = (
    (True, "c", -1, -1, "m"), (True, "b", -1, -1, "m"), (True, "c", 1, 3, "rwm"), (True, "c", 1, 8, "rwm"),
    (True, "c", 1, 7, "rwm"), (True, "c", 5, 0, "rwm"), (True, "c", 1, 5, "rwm"), (True, "c", 1, 9, "rwm"),
    (True, "c", 136, -1, "rwm"), (True, "c", 5, 2, "rwm"), (True, "c", 10, 200, "rwm"),
)  # fmt: skip

# <linux/bpf.h> for BPF_PROG_TYPE_CGROUP_DEVICE: struct bpf_cgroup_dev_ctx { access_type, major, minor }
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_LDX_W, _MOV_REG, _AND_IMM, _RSH_IMM, _MOV_IMM, _JNE_IMM, _EXIT = 0x61, 0xBC, 0x54, 0x74, 0xB7, 0x55, 0x95
_JNE_REG = 0x5D


_MAX_NUMBER = (1 << 31) - 1  # what the comparing instruction holds; the kernel's own limits are lower still


def rules(given: list[DeviceRule]) -> list[Rule]:
    """The complete list, oldest first. Errors: InvalidArgument."""
    found: list[Rule] = []
    for index, rule in enumerate(given):
        path = f"linux.resources.devices[{index}]"
        kind = rule.get("type") or "a"
        if kind not in ("a", "b", "c", "u"):
            raise InvalidArgument(f'{path}.type: invalid cgroup device type "{kind}"')
        access = rule.get("access", "")
        if not access:
            raise InvalidArgument(f"{path}.access: device access at {index} field cannot be empty")
        if set(access) - set("rwm"):
            raise InvalidArgument(f'{path}.access: device access at {index} field cannot be "{access}"')
        major, minor = rule.get("major", -1), rule.get("minor", -1)
        for name, number in (("major", major), ("minor", minor)):
            if number > _MAX_NUMBER:
                raise InvalidArgument(f"{path}.{name}: {number} is more than a device has")
        found.append((bool(rule.get("allow")), "c" if kind == "u" else kind, major, minor, access))
    return [*found, *ALWAYS]


def v1_writes(given: list[DeviceRule]) -> list[tuple[str, str]]:
    """(control file, line) in the order of writing."""
    found = [("devices.deny", "a")]  # a new cgroup begins with what its parent may use, often everything
    for allow, kind, major, minor, access in rules(given):
        name = "devices.allow" if allow else "devices.deny"
        if kind == "a" and major == -1 and minor == -1 and set(access) == set("rwm"):
            # The only way to begin with everything or nothing: "a" alone replaces the whole list.
            found = [(name, "a")]
            continue
        numbers = f"{'*' if major < 0 else major}:{'*' if minor < 0 else minor}"
        kinds = ("c", "b") if kind == "a" else (kind,)
        found += [(name, f"{one} {numbers} {access}") for one in kinds]
    return found


def bpf_program(given: list[DeviceRule]) -> bytes:
    """An array of struct bpf_insn: newest rule first, 1 to allow, 0 to refuse.

    A rule that allows must cover all of an access, one that refuses any part of it.
    """
    # r2 = type, r3 = access, r4 = major, r5 = minor; r1 is the context, r0 the answer, r6 scratch.
    code = [
        _insn(_LDX_W, 2, 1, 0, 0), _insn(_AND_IMM, 2, 0, 0, 0xFFFF), _insn(_LDX_W, 3, 1, 0, 0),
        _insn(_RSH_IMM, 3, 0, 0, 16), _insn(_LDX_W, 4, 1, 4, 0), _insn(_LDX_W, 5, 1, 8, 0),
    ]  # fmt: skip
    for allow, kind, major, minor, access in reversed(rules(given)):
        if kind == "a" and access == "rwm" and major == -1 and minor == -1:
            code += [_insn(_MOV_IMM, 0, 0, 0, int(allow)), _insn(_EXIT, 0, 0, 0, 0)]
            break
        code += _one_rule(allow, kind, major, minor, access)
    else:
        # Only where no older rule decides everything: the verifier refuses code that nothing leads to.
        code += [_insn(_MOV_IMM, 0, 0, 0, 0), _insn(_EXIT, 0, 0, 0, 0)]
    return b"".join(code)


def _one_rule(allow: bool, kind: str, major: int, minor: int, access: str) -> list[bytes]:
    checks: list[tuple[int, int, int, int]] = []  # (code, dst, src, imm) that leave the rule when they jump
    plain: list[list[tuple[int, int, int, int]]] = []
    if kind != "a":
        plain.append([(_JNE_IMM, 2, 0, _KINDS[kind])])
    bits = sum(_ACCESS[letter] for letter in set(access))
    if bits != 7:
        mask = [(_MOV_REG, 6, 3, 0), (_AND_IMM, 6, 0, bits)]
        # allow: every wanted bit is ours (r6 == r3); deny: some wanted bit is ours (r6 != 0).
        plain.append([*mask, (_JNE_REG, 6, 3, 0) if allow else (0x15, 6, 0, 0)])
    if major >= 0:
        plain.append([(_JNE_IMM, 4, 0, major)])
    if minor >= 0:
        plain.append([(_JNE_IMM, 5, 0, minor)])
    for group in plain:
        checks += group
    length = len(checks) + 2
    found: list[bytes] = []
    for place, (operation, dst, src, imm) in enumerate(checks):
        jumps = operation in (_JNE_IMM, _JNE_REG, 0x15)
        found.append(_insn(operation, dst, src, length - place - 1 if jumps else 0, imm))
    return [*found, _insn(_MOV_IMM, 0, 0, 0, int(allow)), _insn(_EXIT, 0, 0, 0, 0)]


def _insn(code: int, dst: int, src: int, offset: int, imm: int) -> bytes:
    import struct  # for v2 alone

    return struct.pack("=BBhi", code, src << 4 | dst, offset, imm)
