"""Session keyrings; /proc/keys or keyctl's own description is the witness."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from sampan.linux import abi, keyring

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


def test_a_new_session_keyring_is_joined_and_its_permissions_are_set(in_child: InChild) -> None:
    def work() -> tuple[str, int, int] | str:
        try:
            key = keyring.join_session_keyring(f"_ses.sampan-test-{os.getpid()}")
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        wanted = keyring.permissions(key) | abi.KEY_USR_SEARCH
        keyring.setperm(key, wanted)
        return keyring.describe(abi.KEY_SPEC_SESSION_KEYRING).split(";")[4][:17], keyring.permissions(key), wanted

    said = in_child(work)
    if said == "ENOSYS":
        pytest.skip("this kernel has no keyrings")
    name, permissions, wanted = said
    assert name == "_ses.sampan-test-"
    assert permissions == wanted
