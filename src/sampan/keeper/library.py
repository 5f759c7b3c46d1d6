"""`sampan.runtime` as the keeper's Runtime (native.py): its functions, with the host's facts gathered once."""

from __future__ import annotations

from sampan import errors
from sampan.linux import abi, process
from sampan.runtime import cgroup, delete, events, kill, launch, pause, state, update
from sampan.runtime.host import host_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.runtime.launch import Launch

_NOFILE = "RLIMIT_NOFILE"


class Library:
    """Each container has its place in the runtime's root, as with `sampan-runc`, which can be asked about it too."""

    def __init__(self) -> None:
        self._host = host_facts()
        # A keeper of many containers needs many descriptors; they get back the limits that it was started with.
        soft, hard = process.getrlimit(0, abi.RLIMITS[_NOFILE])
        self._limits = [(_NOFILE, soft, hard)]
        process.prlimit(0, abi.RLIMITS[_NOFILE], hard, hard)

    def launch(
        self,
        spec: dict[str, Any],
        *,
        container_id: str,
        bundle: str,
        root: str,
        rootfs_mounts: list[dict[str, Any]],
        stdio: tuple[int, int, int] | None,
        terminal: bool,
        console_size: Sequence[int] | None,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        systemd: bool = False,
    ) -> Launch:
        """Make the container's first process; nothing is left when it cannot be made.

        With `systemd` the loop waits for systemd's job, which takes milliseconds.
        """
        unit = None
        if systemd:
            from sampan.runtime.cgroup.unit import UnitPlan

            unit = UnitPlan(spec, container_id, self._host)  # type: ignore[arg-type]
        state.reserve(root, container_id)
        try:
            made = launch.launch(
                spec,  # type: ignore[arg-type]
                container_id=container_id,
                bundle=bundle,
                root=root,
                host=self._host,
                rootfs_mounts=rootfs_mounts or None,
                stdio=stdio,
                terminal=terminal,
                console_size=_size(console_size),
                no_pivot=no_pivot,
                no_new_keyring=no_new_keyring,
                limits=self._limits,
                unit=unit,
            )
        except BaseException:
            state.remove(root, container_id)
            raise
        state.save(root, made.state)
        return made

    def launch_exec(
        self,
        state: dict[str, Any],
        wanted: dict[str, Any],
        /,
        *,
        root: str,
        stdio: tuple[int, int, int] | None,
        terminal: bool,
        console_size: Sequence[int] | None,
    ) -> Launch:
        """Make a further process in it."""
        return launch.launch_exec(
            state,
            wanted,  # type: ignore[arg-type]
            host=self._host,
            root=root,
            stdio=stdio,
            terminal=terminal,
            console_size=_size(console_size),
            limits=self._limits,
        )

    def kill(self, root: str, found: dict[str, Any], number: int, everything: bool) -> None:
        """A signal to init, or to all processes."""
        kill.kill(root, found, number, everything)

    def pause(self, root: str, found: dict[str, Any]) -> None:
        """Freeze every process."""
        pause.pause(root, found)

    def resume(self, root: str, found: dict[str, Any]) -> None:
        """Let them go on."""
        pause.resume(root, found)

    def update(self, root: str, found: dict[str, Any], resources: dict[str, Any]) -> None:
        """Set limits (runtime-spec linux.resources); device rules are left as they are."""
        update.update(root, found, resources)  # type: ignore[arg-type]

    def checkpoint(self, root: str, found: dict[str, Any], flags: list[str]) -> None:
        """Save it as `sampan-runc checkpoint` with these flags does, and remove nothing. This takes long."""
        # Not before it is asked for: seldom, and then in a child.
        from sampan.runtime import checkpoint
        from sampan.runtime.criu import wishes
        from sampan.runtime.flags import parse
        from sampan.runtime.verbs import VERBS

        values, rest = parse(flags, VERBS["checkpoint"].flags)
        if rest:
            raise errors.InvalidArgument(f"checkpoint: not a flag: {rest[0]}")
        checkpoint.checkpoint(root, found, wishes.of_flags(values, ""), remove=False)

    def restore(
        self,
        container_id: str,
        bundle: str,
        root: str,
        rootfs_mounts: list[dict[str, Any]],
        stdio: tuple[int, int, int] | None,
        images: str,
        systemd: bool,
    ) -> list[int]:
        """Make it of the images, as `sampan-runc restore`; the terminal's master, if it has one. This takes long.

        The state is saved; the first process is left to the subreaper of the caller, which ends then.
        """
        from sampan.runtime import restore
        from sampan.runtime.criu.wishes import Wishes

        made = restore.restore(
            container_id, bundle, root, Wishes(images, f"{bundle}/criu-work"), stdio=stdio or (0, 1, 2),
            rootfs_mounts=rootfs_mounts or None, systemd=systemd,
        )  # fmt: skip
        return [made.master] if made.master >= 0 else []

    def stats(self, found: dict[str, Any]) -> dict[str, Any]:
        """As `runc events --stats`."""
        return events.stats(found)

    def pids(self, found: dict[str, Any]) -> list[int]:
        """Every process in the container's cgroups."""
        return cgroup.pids(found["cgroup_paths"])

    def delete(self, root: str, container_id: str, found: dict[str, Any] | None) -> None:
        """Remove what is left of a container whose init has been reaped."""
        if found:
            delete.clean_up(root, found, wait=False)
        else:
            state.remove(root, container_id)

    def load(self, root: str, container_id: str) -> dict[str, Any] | None:
        """The state that another keeper left; None when there is none."""
        try:
            return state.load(root, container_id)
        except errors.Error:
            return None


def _size(wanted: Sequence[int] | None) -> tuple[int, int] | None:
    return (wanted[0], wanted[1]) if wanted else None
