"""A shim's program and its verbs: `start`, which leaves a serving shim behind, and `delete`, when that has died.

    SHIM -namespace NS -address GRPC -publish-binary US -id ID start      in the bundle directory
         TTRPC_ADDRESS, GRPC_ADDRESS, NAMESPACE, MAX_SHIM_VERSION in the environment

Three start protocols are alive, by the containerd that a shim was built with:

    up to 1.7     stdin: the runtime's options as protobuf Any      stdout: the address
    1.7 to 2.2    the same                                          stdout: {"version", "address", "protocol"}
    from 2.3      stdin: BootstrapParams                            stdout: BootstrapResult

A shim of the last kind refuses the older stdin, and one of 1.6 the newer, so a program that is not known yet is first
started the old way, and when that fails the new way; which one it took is remembered. Their answers tell themselves
apart. Source: containerd, "Runtime v2"; `bootstrap.proto`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from sampan import VERSION, errors
from sampan.api.containerd.runtime.bootstrap.v1 import bootstrap_pb2
from sampan.api.containerd.runtime.task.v2 import shim_pb2
from sampan.containerd.containers import Payload
from sampan.containerd.services import TaskExit
from sampan.containerd.shims.bundle import Bundle, Endpoint

MAX_VERSION = 3
START_TIMEOUT, DELETE_TIMEOUT = 30.0, 10.0
_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Home:
    """What a shim is told of us: `address` of the gRPC socket; the one for events is beside it."""

    address: str

    @property
    def events(self) -> str:
        return f"{self.address}.ttrpc"


class Programs:
    """Runs shims' programs, and knows which of them want the newer start protocol."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._bootstrapping: set[tuple[str, int]] = set()

    async def start(self, bundle: Bundle, binary: str, options: Payload | None) -> Endpoint:
        """Start the shim of a bundle; where it answers. Error with what it said; Unavailable when it hangs."""
        known = _identity(binary)
        if known in self._bootstrapping:
            return parse_answer(await self._run(bundle, binary, "start", self._params(bundle, options)))
        old = _any(options) if options is not None else b""
        try:
            return parse_answer(await self._run(bundle, binary, "start", old))
        except errors.Unavailable:
            raise
        except errors.Error as first:
            try:
                answer = await self._run(bundle, binary, "start", self._params(bundle, options))
            except errors.Error as second:
                said = str(first) if str(first) == str(second) else f"{first}; with bootstrap parameters: {second}"
                raise errors.Error(said) from second
        self._bootstrapping.add(known)
        return parse_answer(answer)

    async def delete(self, bundle: Bundle) -> TaskExit:
        """Have the shim's program clean up after its dead shim; what is known of the task's end. Error, Unavailable."""
        answer = await self._run(bundle, bundle.binary(), "delete", b"", "-bundle", bundle.path)
        try:
            found = shim_pb2.DeleteResponse.FromString(answer)
        except DecodeError as error:
            raise errors.Error(f"shim delete: {error}") from error
        at = found.exited_at.seconds * 10**9 + found.exited_at.nanos
        return TaskExit(bundle.container_id, "", found.pid, found.exit_status, at)

    def _params(self, bundle: Bundle, options: Payload | None) -> bytes:
        params = bootstrap_pb2.BootstrapParams(
            instance_id=bundle.container_id,
            namespace=bundle.namespace,
            containerd_version=VERSION,
            containerd_ttrpc_address=self._home.events,
            containerd_grpc_address=self._home.address,
            containerd_binary=_self(),
        )
        if options is not None:
            value = params.extensions.add().value
            value.type_url, value.value = options.type_url, options.value
        data: bytes = params.SerializeToString()
        return data

    def _environment(self, bundle: Bundle) -> Mapping[str, str]:
        return {
            **os.environ,
            "GOMAXPROCS": "2",
            "MAX_SHIM_VERSION": str(MAX_VERSION),
            "TTRPC_ADDRESS": self._home.events,
            "GRPC_ADDRESS": self._home.address,
            "NAMESPACE": bundle.namespace,
        }

    async def _run(self, bundle: Bundle, binary: str, verb: str, stdin: bytes, *flags: str) -> bytes:
        arguments = ["-namespace", bundle.namespace, "-address", self._home.address, "-publish-binary", _self()]
        arguments += ["-id", bundle.container_id, *flags, verb]
        try:
            process = await asyncio.create_subprocess_exec(
                binary,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=bundle.path,
                env=self._environment(bundle),
                process_group=0,
                limit=_ANSWER,
            )
        except OSError as error:
            raise errors.Error(f'failed to start shim: exec "{binary}": {error.strerror}: unknown') from error
        within = START_TIMEOUT if verb == "start" else DELETE_TIMEOUT
        try:
            async with asyncio.timeout(within):
                output, complaint = await process.communicate(stdin)
        except TimeoutError as error:
            raise errors.Unavailable(f'shim "{binary}" {verb} took longer than {within:g} s: unavailable') from error
        finally:
            if process.returncode is None:
                _end(process.pid)
                with suppress(TimeoutError):  # something outside its group may hold the pipes
                    await asyncio.wait_for(process.communicate(), 1.0)
        if process.returncode != 0:
            said = (complaint + output).decode(errors="replace").strip()
            raise errors.Error(said or f"{binary} {verb} ended with status {process.returncode}")
        return output


def parse_answer(answer: bytes) -> Endpoint:
    """What `start` printed, in whichever protocol. Error; Unimplemented for a version or transport we have not."""
    try:
        result = bootstrap_pb2.BootstrapResult.FromString(answer)
        found = Endpoint(result.version, result.address, result.protocol)
    except DecodeError:
        found = Endpoint(0, "")
    if found.version < 2 or not found.address:
        text = answer.decode(errors="replace").strip()
        try:
            document = json.loads(text)
            found = Endpoint(int(document["version"]), str(document["address"]), str(document["protocol"]))
        except (ValueError, KeyError, TypeError):
            found = Endpoint(2, text)
    if not found.address or any(ord(letter) < 32 for letter in found.address):
        raise errors.Error(f"shim start answered {answer[:200]!r}, which is no address: unknown")
    if found.version > MAX_VERSION:
        raise errors.Unimplemented(f"unsupported shim version ({found.version}): not implemented")
    if found.protocol != "ttrpc":
        raise errors.Unimplemented(f'shim protocol "{found.protocol}": not implemented')
    return found


def _any(options: Payload) -> bytes:
    from google.protobuf import any_pb2

    data: bytes = any_pb2.Any(type_url=options.type_url, value=options.value).SerializeToString()
    return data


def _identity(binary: str) -> tuple[str, int]:
    """A program until it is replaced by another version. Error when it is not there."""
    try:
        return binary, os.stat(binary).st_mtime_ns
    except OSError as error:
        raise errors.Error(f'failed to start shim: exec "{binary}": {error.strerror}: unknown') from error


def _self() -> str:
    return os.path.abspath(sys.argv[0])


def _end(pid: int) -> None:
    """The program, with whatever it had started in its process group so far."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended meanwhile
