"""From the flags of `checkpoint` and `restore` to CRIU's options. Source: runc checkpoint --help, restore --help."""

from __future__ import annotations

import os

from sampan.errors import Error, InvalidArgument
from sampan.linux import abi
from sampan.runtime.criu import messages, worker
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sampan.oci.spec import Spec

_SWITCHES = {
    "tcp-established": "tcp_established",
    "tcp-skip-in-flight": "tcp_skip_in_flight",
    "link-remap": "link_remap",
    "ext-unix-sk": "ext_unix_sk",
    "shell-job": "shell_job",
    "file-locks": "file_locks",
    "auto-dedup": "auto_dedup",
    "lazy-pages": "lazy_pages",
    "leave-running": "leave_running",
}
_TEXTS = {
    "lsm-profile": "lsm_profile",
    "lsm-mount-context": "lsm_mount_context",
}
_CGROUP_MODES = {
    "ignore": messages.IGNORE,
    "soft": messages.SOFT,
    "full": messages.FULL,
    "strict": messages.STRICT,
}
_EMPTY_NAMESPACES = {"network": abi.CLONE_NEWNET}
_LEAST_FOR_LSM = 31600
_CONFIGURATION = "/etc/criu/runc.conf"
_ANNOTATION = "org.criu.config"


class Wishes:
    """What the caller of a checkpoint or restore wants.

    `images` and `work` are absolute directories, `work` "" when CRIU's log goes to the images; `parent` is relative to
    `images`; `options` are those of messages.OPTIONS that flags decide. `status_fd` is -1 for none.
    """

    __slots__ = ("images", "options", "parent", "pre_dump", "program", "status_fd", "work")

    def __init__(
        self,
        images: str,
        work: str = "",
        parent: str = "",
        program: str = "",
        pre_dump: bool = False,
        status_fd: int = -1,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.images = images
        self.work = work
        self.parent = parent
        self.program = program
        self.pre_dump = pre_dump
        self.status_fd = status_fd
        # Networks are not the runtime's: their owner sets them up again, in a namespace that comes empty.
        self.options = {"empty_ns": abi.CLONE_NEWNET, **(options or {})}

    @property
    def leave_running(self) -> bool:
        return bool(self.options.get("leave_running"))

    def log(self, name: str) -> str:
        """Where CRIU writes the log `name`."""
        return f"{self.work or self.images}/{name}"


def of_flags(values: Mapping[str, Any], program: str) -> Wishes:
    """The wishes of a command line. Errors: InvalidArgument in runc's words."""
    images = os.path.abspath(values["image-path"] or "checkpoint")
    work = os.path.abspath(values["work-path"]) if values["work-path"] else ""
    parent = values.get("parent-path", "")
    if parent.startswith("/"):
        raise InvalidArgument("--parent-path must be relative")
    options: dict[str, Any] = {option: True for flag, option in _SWITCHES.items() if values.get(flag)}
    options.update({option: values[flag] for flag, option in _TEXTS.items() if values.get(flag)})
    if values.get("page-server"):
        options["ps"] = _page_server(values["page-server"])
    mode = values["manage-cgroups-mode"]
    if mode:
        if mode not in _CGROUP_MODES:
            raise InvalidArgument("Invalid manage-cgroups-mode value")
        options["manage_cgroups_mode"] = _CGROUP_MODES[mode]
    for kind in values["empty-ns"]:
        if kind not in _EMPTY_NAMESPACES:
            raise InvalidArgument(f'namespace "{kind}" is not supported')
    return Wishes(images, work, parent, program, bool(values.get("pre-dump")), values.get("status-fd", -1), options)


def _page_server(text: str) -> dict[str, Any]:
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port:
        raise InvalidArgument("Use --page-server ADDRESS:PORT to specify page server")
    if not port.isdecimal():
        raise InvalidArgument("Invalid port number")
    return {"address": address.removeprefix("[").removesuffix("]"), "port": int(port)}


def check_parent(wishes: Wishes) -> None:
    """That the images of an earlier pre-dump are where --parent-path says. Errors: InvalidArgument."""
    if not wishes.parent:
        return
    path = os.path.normpath(f"{wishes.images}/{wishes.parent}")
    try:
        if not os.path.isdir(path):
            os.stat(path)
            raise InvalidArgument(f"invalid --parent-path: {path}: not a directory")
    except OSError as error:
        raise InvalidArgument(f"invalid --parent-path: stat {path}: {words(error)}") from None


def check_release(wishes: Wishes, least: int) -> None:
    """That CRIU is there, speaks this protocol and has what is wished for. Errors: Error in runc's words."""
    number = worker.version(wishes.program)
    worker.check_version(number, least)
    for flag, option in _TEXTS.items():
        if option in wishes.options and number < _LEAST_FOR_LSM:
            raise Error(f"--{flag} requires at least CRIU 3.16")


def configuration_file(spec: Spec) -> str | None:
    """The file whose settings CRIU lets win over ours: the annotation's, none if that is empty, or the one for all."""
    return spec.get("annotations", {}).get(_ANNOTATION, _CONFIGURATION) or None
