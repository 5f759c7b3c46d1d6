"""What -v, --mount, --tmpfs, --volumes-from and an image's VOLUME mean: texts to mount points. Pure.

Order, later ones refused on the same destination: volumes-from, binds, mounts; then anonymous volumes where nothing
is mounted yet. Rules and words are Docker's (Engine API, HostConfig.Binds and HostConfig.Mounts).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from sampan.api.docker.containers import Config, HostConfig
from sampan.api.docker.containers import Mount as MountRequest
from sampan.engine.containers.model import Container, Mount
from sampan.errors import InvalidArgument, NotFound

_PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
_MODE_GROUPS = (
    frozenset(("ro", "rw")),
    frozenset(("z", "Z")),
    frozenset(("nocopy",)),
    _PROPAGATIONS,
    frozenset(("consistent", "cached", "delegated", "default")),
)


def valid_mode(mode: str) -> bool:
    """Whether `mode` is a legal option list of a -v; at most one option of each group."""
    if not mode:
        return True
    seen = set()
    for option in mode.split(","):
        group = next((number for number, names in enumerate(_MODE_GROUPS) if option in names), None)
        if group is None or group in seen:
            return False
        seen.add(group)
    return True


def parse_bind(text: str) -> Mount:
    """One -v: `dest`, `src:dest` or `src:dest:mode`; a source that is no absolute path names a volume.

    InvalidArgument in Docker's words."""
    parts = text.split(":")
    source, mode = "", ""
    if len(parts) == 1:
        target = parts[0]
    elif len(parts) == 2 and not valid_mode(parts[1]):
        source, target = parts
    elif len(parts) == 3:
        source, target, mode = parts
    else:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if not parts[0] or not target:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    if not valid_mode(mode):
        raise InvalidArgument(f"invalid mode: {mode}")
    options = mode.split(",") if mode else []
    propagation = next((option for option in options if option in _PROPAGATIONS), "")
    kind = "bind" if source.startswith("/") else "volume"
    try:
        destination = _destination(target, kind)
        if kind == "volume" and propagation:
            raise InvalidArgument('invalid mount config for type "volume": field BindOptions must not be specified')
        if kind == "bind" and "nocopy" in options:
            raise InvalidArgument('invalid mount config for type "bind": field VolumeOptions must not be specified')
    except InvalidArgument as error:
        raise InvalidArgument(f"invalid volume specification: '{text}': {error}") from None
    return Mount(
        type=kind,
        source=posixpath.normpath(source) if kind == "bind" else "",
        name=source if kind == "volume" else "",
        destination=destination,
        mode=mode if source else "z",
        rw="ro" not in options,
        propagation=(propagation or "rprivate") if kind == "bind" else "",
        anonymous=not source,
        copy_up=kind == "volume" and "nocopy" not in options,
        create_source=kind == "bind",
        driver="local" if kind == "volume" else "",
    )


def parse_mount(request: MountRequest, source_exists: Callable[[str], bool]) -> Mount:
    """One --mount. InvalidArgument in Docker's words."""
    kind = request.type
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidArgument(f'invalid mount config for type "{kind}": mount type unknown')
    if not request.target:
        raise InvalidArgument(f'invalid mount config for type "{kind}": field Target must not be empty')
    destination = _destination(request.target, kind)
    _refuse_foreign_options(request)
    if kind == "bind":
        return _bind_mount(request, destination, source_exists)
    if kind == "tmpfs":
        return _tmpfs_mount(request, destination)
    options = request.volume_options
    if request.source.startswith("/"):
        raise InvalidArgument(
            f'invalid mount config for type "volume": invalid volume name: "{request.source}": '
            "volume name must not be an absolute path"
        )
    if options is not None and options.subpath:
        parts = options.subpath.split("/")
        if options.subpath.startswith("/") or ".." in parts:
            raise InvalidArgument(
                'invalid mount config for type "volume": subpath must be a relative path within the volume'
            )
    return Mount(
        type="volume",
        name=request.source,
        destination=destination,
        rw=not request.read_only,
        mode="z",
        anonymous=not request.source,
        copy_up=options is None or not options.no_copy,
        subpath=options.subpath if options else "",
        driver=(options.driver_config.name if options and options.driver_config else "") or "local",
    )


def _refuse_foreign_options(request: MountRequest) -> None:
    given = {
        "bind": ("BindOptions", request.bind_options),
        "volume": ("VolumeOptions", request.volume_options),
        "tmpfs": ("TmpfsOptions", request.tmpfs_options),
    }
    for kind, (field, value) in given.items():
        if kind != request.type and value is not None:
            raise InvalidArgument(
                f'invalid mount config for type "{request.type}": field {field} must not be specified'
            )


def _bind_mount(request: MountRequest, destination: str, source_exists: Callable[[str], bool]) -> Mount:
    options = request.bind_options
    if not request.source:
        raise InvalidArgument('invalid mount config for type "bind": field Source must not be empty')
    if not request.source.startswith("/"):
        raise InvalidArgument(
            f"invalid mount config for type \"bind\": invalid mount path: '{request.source}' "
            "mount path must be absolute"
        )
    source = posixpath.normpath(request.source)
    create = options is not None and options.create_mountpoint
    if not create and not source_exists(source):
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {source}')
    propagation = options.propagation if options else ""
    if propagation and propagation not in _PROPAGATIONS:
        raise InvalidArgument(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    return Mount(
        type="bind",
        source=source,
        destination=destination,
        rw=not request.read_only,
        propagation=propagation or "rprivate",
        create_source=create,
        non_recursive=options.non_recursive if options else False,
        read_only_non_recursive=options.read_only_non_recursive if options else False,
    )


def _tmpfs_mount(request: MountRequest, destination: str) -> Mount:
    if request.source:
        raise InvalidArgument('invalid mount config for type "tmpfs": field Source must not be specified')
    options = request.tmpfs_options
    extra = ["noexec", "nosuid", "nodev", "ro" if request.read_only else "rw"]
    if options is not None:
        if options.mode:
            extra.append(f"mode={options.mode:o}")
        if options.size_bytes:
            extra.append(f"size={options.size_bytes}")
        for given in options.options:
            word = "=".join(given)
            if word.startswith(("uid=", "gid=", "nr_inodes=", "nr_blocks=")) or word in ("exec", "suid", "dev"):
                extra.append(word)
    return Mount(type="tmpfs", destination=destination, rw=not request.read_only, options=extra)


def _destination(target: str, kind: str = "") -> str:
    """Normalised. InvalidArgument, which names the `kind` when there is one."""
    prefix = f'invalid mount config for type "{kind}": ' if kind else ""
    if not target.startswith("/"):
        raise InvalidArgument(f"{prefix}invalid mount path: '{target}' mount path must be absolute")
    # Two leading slashes mean the same as one here, but not to normpath.
    destination = posixpath.normpath("/" + target.lstrip("/"))
    if destination == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return destination


# What a --tmpfs may say; anything else is refused as Docker does.
_TMPFS_FLAG_WORDS = (
    "rw ro exec noexec suid nosuid dev nodev sync async dirsync remount mand nomand atime noatime diratime nodiratime "
    "bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime strictatime "
    "nostrictatime defaults"
)
_TMPFS_FLAGS = frozenset(_TMPFS_FLAG_WORDS.split())
_TMPFS_DATA = frozenset(("mode", "uid", "gid", "size", "nr_blocks", "nr_inodes"))


def tmpfs_options(text: str) -> list[str]:
    """The mount options of one --tmpfs DEST:text: Docker's three defaults, then the given ones win.

    InvalidArgument `invalid tmpfs option ["x"]`."""
    options = ["noexec", "nosuid", "nodev"]
    for option in text.split(",") if text else ():
        key, equals, _ = option.partition("=")
        if option not in _TMPFS_FLAGS and not (equals and key in _TMPFS_DATA):
            words = " ".join(f'"{word}"' for word in option.split("=", 1))
            raise InvalidArgument(f"invalid tmpfs option [{words}]")
        opposite = option[2:] if option.startswith("no") else "no" + option
        options = [given for given in options if given not in (option, opposite)]
        options.append(option)
    return options


def from_container(text: str, find: Callable[[str], Container]) -> list[Mount]:
    """The mounts that one --volumes-from (`container[:mode]`) takes over. InvalidArgument."""
    reference, _, mode = text.partition(":")
    if not reference:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    if mode and (not valid_mode(mode) or set(mode.split(",")) & (_PROPAGATIONS | {"nocopy"})):
        raise InvalidArgument(f"invalid mode for volumes-from: {mode}")
    read_only = "ro" in mode.split(",")
    found = []
    try:
        mounts = find(reference).mounts
    except NotFound as error:
        # Not as NotFound: a client would take it for the image's and pull that.
        raise InvalidArgument(str(error)) from None
    for mount in mounts:
        if mount.type == "tmpfs":
            continue
        found.append(
            Mount(
                type=mount.type,
                source=mount.source,
                name=mount.name,
                destination=mount.destination,
                driver=mount.driver,
                mode=mode or mount.mode,
                rw=mount.rw and not read_only,
                propagation=mount.propagation,
                subpath=mount.subpath,
            )
        )
    return found


def collect(
    config: Config,
    host_config: HostConfig,
    find: Callable[[str], Container],
    source_exists: Callable[[str], bool],
) -> list[Mount]:
    """Every mount of a coming container, volumes by name only ("" for one still to be made).

    InvalidArgument, also `Duplicate mount point: /x`."""
    taken: dict[str, Mount] = {}
    for text in host_config.volumes_from:
        for mount in from_container(text, find):
            taken[mount.destination] = mount
    explicit: set[str] = set()
    requested: Sequence[Mount] = [
        *(parse_bind(text) for text in host_config.binds),
        *(parse_mount(request, source_exists) for request in host_config.mounts),
    ]
    tmpfs = {posixpath.normpath(destination) for destination in host_config.tmpfs}
    for destination, options in host_config.tmpfs.items():
        _destination(destination)
        tmpfs_options(options)
    for mount in requested:
        if mount.destination in explicit or mount.destination in tmpfs:
            raise InvalidArgument(f"Duplicate mount point: {mount.destination}")
        explicit.add(mount.destination)
        taken[mount.destination] = mount
    for target in config.volumes:
        # A relative one, as docker sends for `-v x:/x` (a drive letter to its parser), counts from the root.
        destination = _destination("/" + target)
        if destination not in taken and destination not in tmpfs:
            taken[destination] = Mount(
                type="volume", destination=destination, anonymous=True, copy_up=True, driver="local"
            )
    return list(taken.values())
