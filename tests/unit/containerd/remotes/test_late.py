"""The HTTP library that is imported when it is first used."""

import subprocess
import sys

import aiohttp

from sampan.containerd.remotes import late

PROGRAM = """
import sys
from sampan.containerd.remotes.late import aiohttp, transport_errors
before = "aiohttp" in sys.modules
kinds = transport_errors()
print(before, kinds[0] is sys.modules["aiohttp"].ClientError)
"""


def test_it_is_imported_by_its_first_use_and_is_the_same_module() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert late.aiohttp.ClientSession is aiohttp.ClientSession


def test_an_attribute_that_it_has_not_is_an_attribute_error() -> None:
    assert not hasattr(late.aiohttp, "no_such_thing")


def test_what_a_request_may_raise_are_its_errors_and_the_systems() -> None:
    assert issubclass(aiohttp.ClientPayloadError, late.transport_errors())
    assert issubclass(ConnectionResetError, late.transport_errors())
    assert issubclass(TimeoutError, late.transport_errors())
    assert not issubclass(ValueError, late.transport_errors())
