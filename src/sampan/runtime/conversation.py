"""The parent's side of a launch after clone3: the messages of init, and what the parent does about each.

The conversation itself is drawn in `handshake`.
"""

from __future__ import annotations

from sampan.errors import Error
from sampan.linux import abi, process
from sampan.runtime import cgroup, document, handshake, state
from sampan.runtime.plan import limit_steps
from sampan.runtime.steps.situation import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from select import epoll
    from typing import Any

    from sampan.linux.packets import PacketSocket
    from sampan.oci.spec import Resources
    from sampan.runtime.hook_runner import HookRunner
    from sampan.runtime.plan import Plan

    Event = tuple[Any, ...]


_OURS = ("prestart", "createRuntime", "poststart")
"""The hooks that the parent runs."""


class Launch:
    """A process on its way to execve. `state` is what `state.save` writes; for an exec it is the container's.

    `pid` and `pidfd` are the caller's to reap and close. `channel` is a descriptor to poll for input; it is closed by
    `close`, or when `step` has said "running" or "failed". `executed` says that execve has happened: "running" comes
    only when the poststart hooks, too, are done.
    """

    __slots__ = (
        "_cgroups", "_limits", "_poll", "_runner", "_sock", "_tell", "executed", "hooks", "pid", "pidfd", "proceeded",
        "state",
    )  # fmt: skip

    def __init__(
        self,
        pid: int,
        pidfd: int,
        sock: PacketSocket,
        state: dict[str, Any],
        plan: Plan,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.state = state
        self.hooks = plan.hooks
        self.proceeded = False
        self.executed = False
        self._sock: PacketSocket | None = sock
        self._tell = tell
        self._runner: HookRunner | None = None
        self._poll: epoll | None = None
        self._limits: Resources | None = None
        self._cgroups: dict[str, str] = {}
        sock.setblocking(False)
        if any(plan.hooks.get(name) for name in _OURS):
            from select import EPOLLIN, epoll

            # One descriptor for the caller, whether it is init that has to say something or a hook that has ended.
            self._poll = epoll()
            self._poll.register(sock.fileno(), EPOLLIN)

    @property
    def conversation(self) -> Launch:
        return self

    @property
    def channel(self) -> int:
        """The descriptor to poll, -1 when the conversation is over."""
        if self._poll is not None:
            return self._poll.fileno()
        return -1 if self._sock is None else self._sock.fileno()

    def step(self) -> Event | None:
        """Take what init says and do the parent's part of it. None when nothing (more) concerns the caller."""
        try:
            if self._runner is not None:
                return self._hooks_over(self._runner)
            if self._sock is None:
                return None
            try:
                word, payload, received = handshake.receive(self._sock)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                word, payload, received = "", "", []
            return self._answer(word, payload, received)
        except StepFailed as failure:
            return self._give_up(
                failure.kind, f"unable to start container process: error during container init: {failure}"
            )
        except Error as error:
            text = f"unable to start container process: error during container init: {error}"
            return self._give_up(type(error).__name__, text)
        except OSError as error:
            text = f"unable to start container process: error during container init: {error.strerror or error}"
            return self._give_up("Error", text)

    def _answer(self, word: str, payload: str, received: list[int]) -> Event | None:
        if word == handshake.HOOKS and self._poll is not None:
            self._set_limits("procHooks")
            self._run_hooks("prestart", "createRuntime", status="creating")
            return None
        if word == handshake.STEP and self._tell is not None:
            self._tell(payload)
            return None
        if word == handshake.CONSOLE and received:
            return word, received[0]
        if word == handshake.LISTENER and received:
            from sampan.runtime import listener

            listener.hand_over(self.state, self.pid, received[0])
            return None
        if word == handshake.READY:
            self._set_limits("ready")
            return (handshake.READY,)
        if word == handshake.FAILED:
            kind, _, text = payload.partition("\0")
            self.close()
            return handshake.FAILED, kind, text
        if word:
            raise Error(f"unexpected message {word!r} from init")
        if self.proceeded:
            self.executed = True
            if self.hooks.get("poststart"):
                self._run_hooks("poststart", status="running")
                return None
        self.close()
        if self.proceeded:
            return ("running",)
        return handshake.FAILED, "Error", "unable to start container process: container init exited prematurely"

    def proceed(self) -> None:
        """Let init execute the program. Errors: OSError EPIPE, in runc's words, when it has ended."""
        self.proceeded = True
        try:
            self._send(handshake.PROCEED)
        except BrokenPipeError as error:
            memory = self.state.get("spec", {}).get("linux", {}).get("resources", {}).get("memory", {})
            # cgroup v2 takes any limit, and kills at once whom it does not hold.
            how = "was OOM-killed (memory limit too low?)" if memory.get("limit", 0) > 0 else "exited prematurely"
            text = f"unable to start container process: container init {how}"
            raise BrokenPipeError(error.errno, text) from None

    def close(self) -> None:
        """End the conversation. An init that was not told to proceed ends, and so does a hook that runs."""
        if self._runner is not None:
            self._runner.end()
            self._runner = None
        if self._poll is not None:
            self._poll.close()
            self._poll = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def discard(self) -> None:
        """Kill what is left of a launch that failed; the caller reaps the pid and removes the cgroups."""
        self.close()
        try:
            process.pidfd_send_signal(self.pidfd, abi.SIGKILL)
        except ProcessLookupError:
            pass

    def _run_hooks(self, *names: str, status: str) -> None:
        """Have the named hooks run in the host's namespaces, in the spec's order. Init is not listened to meanwhile."""
        from select import EPOLLIN

        from sampan.runtime.hook_runner import HookRunner

        assert self._poll is not None and self._sock is not None
        work = [(name, index, hook) for name in names for index, hook in enumerate(self.hooks.get(name, []))]
        self._runner = HookRunner(work, document.text_of(state.oci_state(self.state, status)))
        self._poll.unregister(self._sock.fileno())
        self._poll.register(self._runner.fd, EPOLLIN)

    def _hooks_over(self, runner: HookRunner) -> Event | None:
        from select import EPOLLIN

        problem = runner.step()
        if problem is None:
            return None
        self._runner = None
        if self.executed:
            self.close()
            return self._give_up("Error", problem) if problem else ("running",)
        if problem:
            raise StepFailed(problem)
        assert self._poll is not None and self._sock is not None
        self._poll.register(self._sock.fileno(), EPOLLIN)
        self._send(handshake.HOOKED)
        return None

    def _send(self, word: str) -> None:
        if self._sock is None:
            raise BrokenPipeError(32, "the process has ended")
        handshake.send(self._sock, word)

    def _give_up(self, kind: str, text: str) -> Event:
        self.discard()
        return handshake.FAILED, kind, text

    def _set_limits(self, moment: str) -> None:
        """Not before the mounts are made, as in runc: device rules would hinder them, and a small limit even us."""
        if self._limits is not None:
            limits, self._limits = self._limits, None
            if self._tell is not None:
                for step in limit_steps(limits):
                    self._tell(str(step))
            try:
                cgroup.apply(self._cgroups, limits, settings=self.state["config"]["cgroups"])
            except Error as error:
                raise StepFailed(
                    f"error setting cgroup config for {moment} process: {error}", type(error).__name__
                ) from None

    def limit(self, paths: dict[str, str], resources: Resources) -> None:
        """Remember the limits to set when init is ready for them."""
        self._cgroups = paths
        self._limits = resources
