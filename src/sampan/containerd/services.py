"""The contracts of the container core: what the engine (and later the gRPC edge) may ask of it.

Model, in containerd's words:

- a **blob** is immutable bytes named by their digest; while it is written it is an **ingest** named by a `ref`,
  which survives a crash and is resumed at its offset;
- an **image** is a name that points at a descriptor (an index or a manifest);
- a **snapshot** is a file system state in a chain: `prepare` makes an *active* one over a parent, `commit` turns it
  into a *committed* one under a new name; `view` is a read-only active one. Image layers are committed under their
  chain ID (image-spec, "Layer ChainID");
- a **container** is a record, a **task** the running thing made from it, an **exec** a further process in a task.

Worked example (what `docker run` does):

    pull.pull("docker.io/library/busybox:latest", ...)      # blobs, snapshots by chain ID, image name
    mounts = snapshots.prepare("<container id>", parent="<chain id>")
    pid = await tasks.create("<id>", bundle="/run/.../<id>", rootfs=mounts, io=..., ...)
    ...the engine sets up the network in /proc/<pid>/ns/net...
    await tasks.start("<id>")
    ...on_exit(TaskExit(...))...
    await tasks.delete("<id>"); snapshots.remove("<id>")

Every store is bound to one containerd namespace (the engine's is "moby") when it is made. Failures are the kinds
of `sampan.errors`; each method names those it raises. Methods that are not `async` finish within about a
millisecond and touch only local files or sqlite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Protocol

from sampan.oci.image import Descriptor, Platform
from sampan.oci.reference import Reference

Kind = Literal["active", "view", "committed"]


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """A committed blob. `size` in bytes, times in nanoseconds since the epoch."""

    digest: str
    size: int
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    updated_at: int = 0


class Ingest(Protocol):
    """One blob being written. Resumable: `offset` bytes are already there and hashed."""

    ref: str
    offset: int

    def write(self, data: bytes | memoryview) -> None:
        """Append `data` and hash it. OSError when the disk refuses."""

    def truncate(self) -> None:
        """Start again at offset 0 (a server that cannot resume)."""

    def commit(self, size: int | None, expected: str | None, labels: Mapping[str, str] | None = None) -> str:
        """fsync, rename under its digest, record it; the digest.

        AlreadyExists when the blob is there (the ingest is dropped); DataLoss when size or digest differ
        (the ingest is dropped: its bytes are wrong); NotFound when its ref was aborted meanwhile."""

    def close(self) -> None:
        """Release the lock on the ref and keep the bytes for a later resume."""

    def abort(self) -> None:
        """Drop the bytes."""


class Content(Protocol):
    def info(self, digest: str) -> ContentInfo:
        """NotFound: content DIGEST: not found."""

    def read(self, digest: str) -> bytes:
        """A document whole (manifest, config). NotFound; InvalidArgument for a blob too large to be one."""

    def open(self, digest: str) -> BinaryIO:
        """A blob for reading; the caller closes it. NotFound."""

    def writer(self, ref: str) -> Ingest:
        """Open or resume the ingest `ref`. Unavailable when another writer holds it."""

    def put(self, data: bytes, labels: Mapping[str, str] | None = None) -> str:
        """Store a small blob (idempotent); its digest."""

    def walk(self) -> Iterator[ContentInfo]: ...

    def delete(self, digest: str) -> None:
        """NotFound."""


@dataclass(frozen=True, slots=True)
class Image:
    """A name for a target. Times in nanoseconds since the epoch."""

    name: str
    target: Descriptor
    created_at: int = 0
    updated_at: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


class Images(Protocol):
    def get(self, name: str) -> Image:
        """NotFound."""

    def list(self) -> Sequence[Image]: ...

    def put(self, image: Image) -> Image:
        """Create the name or point it elsewhere; the record as stored."""

    def delete(self, name: str) -> None:
        """NotFound. Blobs and snapshots stay until `collect`."""

    def collect(self) -> int:
        """Remove every blob and committed snapshot that no image name, container snapshot or running pull
        reaches; bytes freed."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(2) in containerd's shape: `options` as in fstab, data and flags mixed."""

    type: str
    source: str
    options: Sequence[str]
    target: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    kind: Kind
    name: str
    parent: str
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    size: int
    inodes: int


class Snapshotter(Protocol):
    """Synchronous except where it says so. Names and keys share one key space."""

    name: str

    def stat(self, key: str) -> SnapshotInfo:
        """NotFound."""

    def walk(self) -> Iterator[SnapshotInfo]: ...

    def usage(self, key: str) -> Usage:
        """Disk used by this snapshot alone. NotFound."""

    def mounts(self, key: str) -> Sequence[Mount]:
        """Of an active snapshot, again. NotFound."""

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        """A writable snapshot over the committed `parent` ("" for none). AlreadyExists, NotFound (parent)."""

    def view(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        """A read-only one."""

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Turn active `key` into committed `name`; synced before it is named. AlreadyExists, NotFound."""

    def remove(self, key: str) -> None:
        """NotFound; Conflict while another snapshot has it as its parent. Files go away in the background
        (a janitor), the row at once."""

    def upper(self, key: str) -> str:
        """The directory that holds what an active snapshot changed (docker diff, docker cp). NotFound."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """For one registry. All empty means anonymous."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a pull or push, worded as Docker's CLI shows it.

    `id` is the layer's short digest or the tag ("" for a plain line); `status` is Docker's own word
    ("Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting",
    "Pull complete", "Already exists", ...); `current`/`total` in bytes, 0 when unknown."""

    id: str
    status: str
    current: int = 0
    total: int = 0


class Transfer(Protocol):
    async def pull(
        self,
        reference: str,
        *,
        platform: Platform | None,
        credentials: Credentials,
        progress: Callable[[Progress], None],
    ) -> Image:
        """Resolve, fetch (in parallel), verify, unpack and name; the image as stored.

        NotFound (manifest unknown, no matching platform), Unauthorized, Unavailable (unreachable), DataLoss
        (digest), InvalidArgument (reference). A failed or cancelled pull leaves resumable ingests and no name."""

    async def push(
        self,
        reference: str,
        *,
        credentials: Credentials,
        progress: Callable[[Progress], None],
    ) -> Descriptor:
        """Upload what the registry lacks of the image named `reference`; the pushed manifest."""

    async def load(self, archive: AsyncIterator[bytes], *, progress: Callable[[Progress], None]) -> Sequence[Image]:
        """Import an image archive (docker-archive or OCI layout; plain, gzip or zstd) as it streams in.

        The images as named; one without a name gets one under `imported@DIGEST`. InvalidArgument, DataLoss."""

    def save(self, images: Sequence[str | Descriptor]) -> Iterator[bytes]:
        """The archive of these images (a name, or a descriptor for one without), in pieces: an OCI image layout with
        docker's `manifest.json`. NotFound; InvalidArgument for `sampan/host`, before the first piece."""


class Commits(Protocol):
    """Images made on this machine. `describe` yields the image's config document for the DiffID of the new layer; an
    empty `name` gets one under `imported@DIGEST`. A failure leaves no name, and nothing that a collection keeps."""

    async def commit(self, key: str, base: Descriptor, name: str, describe: Callable[[str], bytes]) -> Image:
        """What snapshot `key` has changed, as one more layer on the image with the manifest `base`. NotFound."""

    async def import_layer(self, tar: AsyncIterator[bytes], name: str, describe: Callable[[str], bytes]) -> Image:
        """An image with one layer: `tar`, plain, gzip or zstd. InvalidArgument when it is none."""


class Registries(Protocol):
    """Questions to a registry that move no image."""

    async def login(self, server: str, credentials: Credentials) -> None:
        """Whether `server` (a host, or Docker Hub's "https://index.docker.io/v1/") takes the credentials.

        Unauthorized in docker's words, Unavailable."""

    async def describe(self, reference: Reference, credentials: Credentials) -> tuple[Descriptor, Sequence[Platform]]:
        """What a tagged or digested name stands for, and the platforms it offers.

        NotFound, Unauthorized, Unavailable, InvalidArgument (no image document), DataLoss."""


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the keeper writes a container's output, in Docker's json-file format; None means nowhere.

    `max_size` in bytes (0: unlimited), `max_file` files kept (PATH, PATH.1, ...)."""

    path: str
    max_size: int = 0
    max_file: int = 1


@dataclass(frozen=True, slots=True)
class TaskIO:
    terminal: bool
    stdin: bool
    stdin_once: bool = False
    log: LogTarget | None = None
    console_size: tuple[int, int] | None = None  # (height, width)


@dataclass(frozen=True, slots=True)
class TaskExit:
    """`status` as a shell shows it: 0..255, or 128 + signal. `exited_at` in nanoseconds since the epoch.
    `exec_id` is "" for the task's own process."""

    container_id: str
    exec_id: str
    pid: int
    status: int
    exited_at: int
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class TaskState:
    """`status`: created, running, paused or stopped. `exit` is set once it stopped. `execs` are live exec ids."""

    container_id: str
    pid: int
    status: str
    exit: TaskExit | None
    execs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a client may ask of the runtime of one task (`containerd.runc.v1.Options`).

    `name`: the id that the runtime and hooks see, "" for the container's; `root`: its `--root`, "" for one below the
    state directory; `io_uid`, `io_gid`: who owns the pipes of its streams, None for the container's user."""

    name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    io_uid: int | None = None
    io_gid: int | None = None


DEFAULT_OPTIONS = RuntimeOptions()


class Tasks(Protocol):
    """Running things, behind the keeper. A task outlives this process; `list` finds it again."""

    async def create(
        self,
        container_id: str,
        *,
        bundle: str,
        rootfs: Sequence[Mount],
        io: TaskIO,
        runtime: str = "",
        options: RuntimeOptions = DEFAULT_OPTIONS,
        remove_volatile: bool = False,
        checkpoint: str = "",
    ) -> int:
        """Make the sandbox and stop right before execve; the pid (host's pid namespace) of its init.

        `bundle` holds `config.json`; `runtime` is "" for ours or the path of another OCI runtime's binary.
        AlreadyExists; InvalidArgument (the spec); Error with the runtime's own text otherwise (for a missing
        executable: `exec: "x": executable file not found in $PATH`). On failure nothing is left.

        `checkpoint` is a directory of a checkpoint's images, to stay there until `start`, which restores them: there
        is no process before then, and the pid is 0."""

    async def start(self, container_id: str) -> int:
        """execve, or the restore of the checkpoint that `create` was given; the pid.

        NotFound, Conflict; Error with the runtime's text, after which the task is stopped."""

    async def exec(self, container_id: str, exec_id: str, *, process: Mapping[str, Any], io: TaskIO) -> int:
        """Run a further process (runtime-spec `process` object); its pid. NotFound, Conflict, Error (text).

        Streams are attached before with `attach(container_id, exec_id, ...)`, which may come first."""

    async def attach(
        self,
        container_id: str,
        exec_id: str = "",
        *,
        stdout: int | None,
        stderr: int | None,
        stdin: bool,
    ) -> int | None:
        """Send a copy of the output to the given pipe write ends (passed on; the caller closes its own) and, if
        `stdin`, return an fd to write input to (a pipe's write end or the pty's master). With a terminal
        all output goes to `stdout`. The keeper closes its copies at the end of the stream."""

    async def attach_logger(self, container_id: str, exec_id: str, uri: str, *, name: str, namespace: str) -> None:
        """Start the program of a `binary://` URI and send both outputs to it; done when it is ready for them.

        It is told `name` and `namespace` as the container's. Error when it cannot be started."""

    async def kill(self, container_id: str, signal: int, exec_id: str = "", *, all: bool = False) -> None:
        """NotFound; Conflict when it has stopped."""

    async def resize(self, container_id: str, exec_id: str, height: int, width: int) -> None: ...

    async def close_stdin(self, container_id: str, exec_id: str = "") -> None: ...

    async def pause(self, container_id: str) -> None: ...

    async def checkpoint(self, container_id: str, images: str, *, flags: Sequence[str] = ()) -> None:
        """Save a running or paused task to the directory `images`, made if it is missing; `flags` are those of
        `runc checkpoint`. Without --leave-running the task ends, and its exit is told like any other.

        Conflict, InvalidArgument; Error with the runtime's text, after which the task goes on."""
        ...

    async def resume(self, container_id: str) -> None: ...

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """Apply runtime-spec `linux.resources` to a live task."""

    async def stats(self, container_id: str) -> Mapping[str, Any]:
        """runc's `events --stats` data object (cpu, memory, pids, blkio). NotFound, Conflict."""

    async def pids(self, container_id: str) -> Sequence[int]: ...

    async def delete(self, container_id: str) -> TaskExit:
        """Forget a stopped task and tear down what it held; its exit. NotFound; Conflict while it runs."""

    async def list(self) -> Sequence[TaskState]: ...

    def on_exit(self, callback: Callable[[TaskExit], None]) -> None:
        """Call back on the loop for every exit, tasks and execs, each once, after its output was written."""

    def on_oom(self, callback: Callable[[str], None]) -> None: ...


class Core(Protocol):
    """The container core as one value: what the composition root hands to the engine."""

    content: Content
    images: Images
    snapshots: Snapshotter
    transfer: Transfer
    commits: Commits
    tasks: Tasks

    async def close(self) -> None: ...


__all__ = [
    "DEFAULT_OPTIONS",
    "Commits",
    "Content",
    "ContentInfo",
    "Core",
    "Credentials",
    "Descriptor",
    "Image",
    "Images",
    "Ingest",
    "LogTarget",
    "Mount",
    "Platform",
    "Progress",
    "Registries",
    "RuntimeOptions",
    "SnapshotInfo",
    "Snapshotter",
    "TaskExit",
    "TaskIO",
    "TaskState",
    "Tasks",
    "Transfer",
    "Usage",
]
