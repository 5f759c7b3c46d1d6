"""containerd's API without a client's own opinions: any request to a core, and what came of it as a line of text."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf import message_factory, symbol_database, text_format
from grpclib import GRPCError
from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod
from tests.peers.containers import Core

_HOMES = {
    "Containers": "containers.v1.containers", "Content": "content.v1.content", "Diff": "diff.v1.diff",
    "Events": "events.v1.events", "Images": "images.v1.images", "Introspection": "introspection.v1.introspection",
    "Leases": "leases.v1.leases", "Namespaces": "namespaces.v1.namespace", "Snapshots": "snapshots.v1.snapshots",
    "Store": "sandbox.v1.sandbox", "Tasks": "tasks.v1.tasks",
}  # fmt: skip
_KINDS = {(False, False): UnaryUnaryMethod, (False, True): UnaryStreamMethod, (True, True): StreamStreamMethod}
_EVENTS = ("container", "content", "image", "namespace", "snapshot", "task")
# What differs from run to run and from core to core.
_RANDOM = (
    (r"\b(\w+_at) { [^}]*}", r"\1 TIME"),
    (r"\bpid: \d+", "pid: PID"),
    (r'bundle: "[^"]*"', 'bundle: "DIRECTORY"'),
    (r"DIRECTORY/(root|state)[^ =,:\"]*/\d+(/fs|/work)?", "SNAPSHOT"),
    # 1.6 writes the kind out behind every error of a shim, 2.1 does not.
    # In another order in each version.
    (r'options: "index=off" ?', ""),
    (r": unknown(?=\|?$)", ""),
)


class Api:
    """A connection to `core`, in a containerd namespace. `said` is the transcript."""

    def __init__(self, core: Core, channel: Channel, namespace: str) -> None:
        self.core, self.namespace = core, namespace
        self._channel = channel
        self.said: list[str] = []
        self._heard: list[str] = []

    def _method(self, service: str, name: str) -> tuple[Any, Any]:
        module = importlib.import_module(f"sampan.api.containerd.services.{_HOMES[service]}_pb2")
        descriptor = module.DESCRIPTOR.services_by_name[service]
        found = descriptor.methods_by_name[name]
        request = message_factory.GetMessageClass(found.input_type)
        kind = _KINDS[found.client_streaming, found.server_streaming]
        answer = message_factory.GetMessageClass(found.output_type)
        return kind(self._channel, f"/{descriptor.full_name}/{name}", request, answer), request

    def _headers(self, namespace: str | None, lease: str) -> dict[str, str]:
        named = {"containerd-namespace": self.namespace if namespace is None else namespace, "containerd-lease": lease}
        return {key: value for key, value in named.items() if value}

    async def call(
        self, service: str, name: str, body: Mapping[str, Any], *, namespace: str | None = None, lease: str = ""
    ) -> Any:
        """GRPCError."""
        method, request = self._method(service, name)
        async with asyncio.timeout(30):
            return await method(filled(request(), body), metadata=self._headers(namespace, lease))

    async def say(self, service: str, name: str, body: Mapping[str, Any], **more: Any) -> None:
        """`call`, and a line of the transcript about it."""
        asked = f"{service}.{name} {body} {more or ''}"
        try:
            answer = await self.call(service, name, body, **more)
        except GRPCError as error:
            self._note(asked, f"{error.status.name} {error.message}")
        else:
            self._note(asked, _text(answer))

    async def write(self, *requests: Mapping[str, Any] | Callable[[], Awaitable[None]], **more: Any) -> None:
        """A Write stream, of which the answers are noted; callables happen meanwhile, as the last they cut it off."""
        method, request = self._method("Content", "Write")
        answers: list[str] = []
        try:
            async with (
                asyncio.timeout(30),
                method.open(metadata=self._headers(more.get("namespace"), more.get("lease", ""))) as stream,
            ):
                for number, body in enumerate(requests):
                    if callable(body):
                        await body()
                        continue
                    last = number == len(requests) - 1
                    await stream.send_message(filled(request(), body), end=last)
                    answers.append(_text(await stream.recv_message()))
                if callable(requests[-1]):
                    await stream.cancel()
                else:
                    await stream.recv_message()
        except GRPCError as error:
            answers.append(f"{error.status.name} {error.message}")
        # 2.1 says no times but for a STAT.
        asked = [body for body in requests if not callable(body)]
        self._note(f"Write {asked}", re.sub(r"\w+_at { [^}]*} ?", "", " | ".join(answers)))

    async def blob(self, data: bytes, labels: Mapping[str, str] | None = None, lease: str = "") -> str:
        """A committed one; its digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        method, request = self._method("Content", "Write")
        async with method.open(metadata=self._headers(None, lease)) as stream:
            commit = request(action=2, ref=digest, data=data, expected=digest, labels=labels or {})
            await stream.send_message(commit, end=True)
            await stream.recv_message()
        return digest

    async def there(self, *bodies: tuple[str, str, Mapping[str, Any]]) -> None:
        """Notes which of these calls find something, by their bodies."""
        found = []
        for service, name, body in bodies:
            try:
                await self.call(service, name, body)
                found.append(str(body))
            except GRPCError:
                pass
        self.said.append("there: " + " ".join(found))

    @asynccontextmanager
    async def listening(self, until: str = "") -> AsyncIterator[None]:
        """Hears the events of its namespace meanwhile, and notes them sorted and once each at the end.

        `until` is what is in the last of them, where shims tell of it in their own time."""
        for name in _EVENTS:
            importlib.import_module(f"sampan.api.containerd.events.{name}_pb2")
        method, request = self._method("Events", "Subscribe")
        async with method.open(metadata=self._headers(None, "")) as stream:
            await stream.send_message(request(filters=[f"namespace=={self.namespace}"]), end=True)
            listener = asyncio.get_running_loop().create_task(self._listen(stream))
            try:
                await self._marked("begin")
                yield
                await self._marked("end")
                async with asyncio.timeout(15):
                    while not any(until in line for line in self._heard):
                        await asyncio.sleep(0.02)
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
                await stream.cancel()
        # A shim of 2.1 may tell an exit twice.
        self.said += sorted({self._plain(line) for line in self._heard if "/mark/" not in line})
        self._heard.clear()

    async def _marked(self, name: str) -> None:
        """An event of our own has come: all that was told before it has as well."""
        async with asyncio.timeout(15):
            while not any(f"/mark/{name}" in line for line in self._heard):
                mark = {"type_url": "google.protobuf.Empty"}
                await self.call("Events", "Publish", {"topic": f"/mark/{name}", "event": mark})
                await asyncio.sleep(0.02)

    async def _listen(self, stream: Any) -> None:
        while (event := await stream.recv_message()) is not None:
            kind = event.event.type_url
            found = symbol_database.Default().GetSymbol(kind).FromString(event.event.value)
            self._heard.append(f"{event.topic} {kind} {_text(found)}")

    def _note(self, asked: str, answer: str) -> None:
        self.said.append(f"{self._plain(asked)} → {self._plain(answer)}")

    def _plain(self, text: str) -> str:
        text = text.replace(self.core.scratch, "DIRECTORY")
        for pattern, word in _RANDOM:
            text = re.sub(pattern, word, text)
        return text


def filled(message: Any, body: Mapping[str, Any]) -> Any:
    """`message` with the fields of `body`; the paths of a mask are a list."""
    for name, value in body.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        one = getattr(message, name)
        if field.message_type is None:
            one.extend(value) if field.is_repeated else setattr(message, name, value)
        elif field.message_type.GetOptions().map_entry:
            for key, entry in value.items():
                if isinstance(entry, str):
                    one[key] = entry
                else:
                    filled(one[key], entry)
        elif field.is_repeated:
            for entry in value:
                filled(one.add(), entry)
        else:
            one.SetInParent()
            filled(one, {"paths": value} if isinstance(value, list) else value)
    return message


def _text(answer: Any) -> str:
    if isinstance(answer, list):
        return " ".join(map(_text, answer))
    return "nothing" if answer is None else str(text_format.MessageToString(answer, as_one_line=True, as_utf8=True))
