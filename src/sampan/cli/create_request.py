"""`run` and `create`: from flags to the body of POST /containers/create (API 1.51, ContainerCreateRequest)."""

from __future__ import annotations

import os
import re

from sampan.cli.flags import Flag, Options, UsageError
from sampan.cli.terminal import window_size
from sampan.cli.units import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = (
    Flag("add-host", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Flag("annotation", "list", "Add an annotation to the container (passed through to the OCI runtime)"),
    Flag("attach a", "list", "Attach to STDIN, STDOUT or STDERR"),
    Flag("blkio-weight", "int", "Block IO (relative weight), between 10 and 1000, or 0 to disable"),
    Flag("cap-add", "list", "Add Linux capabilities"),
    Flag("cap-drop", "list", "Drop Linux capabilities"),
    Flag("cgroup-parent", help="Optional parent cgroup for the container"),
    Flag("cgroupns", help="Cgroup namespace to use (host|private)"),
    Flag("cidfile", help="Write the container ID to the file"),
    Flag("cpu-period", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares c", "int", "CPU shares (relative weight)"),
    Flag("cpus", help="Number of CPUs"),
    Flag("cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", help="MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", "list", "Add a host device to the container"),
    Flag("device-cgroup-rule", "list", "Add a rule to the cgroup allowed devices list"),
    Flag("dns", "list", "Set custom DNS servers"),
    Flag("dns-option", "list", "Set DNS options"),
    Flag("dns-search", "list", "Set custom DNS search domains"),
    Flag("domainname", help="Container NIS domain name"),
    Flag("entrypoint", help="Overwrite the default ENTRYPOINT of the image"),
    Flag("env e", "list", "Set environment variables"),
    Flag("env-file", "list", "Read in a file of environment variables"),
    Flag("expose", "list", "Expose a port or a range of ports"),
    Flag("group-add", "list", "Add additional groups to join"),
    Flag("health-cmd", help="Command to run to check health"),
    Flag("health-interval", help="Time between running the check (ms|s|m|h)"),
    Flag("health-retries", "int", "Consecutive failures needed to report unhealthy"),
    Flag("health-start-period", help="Start period for the container to initialize before counting retries"),
    Flag("health-timeout", help="Maximum time to allow one check to run (ms|s|m|h)"),
    Flag("hostname h", help="Container host name"),
    Flag("init", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive i", "bool", "Keep STDIN open even if not attached"),
    Flag("ip", help="IPv4 address (e.g., 172.30.100.104)"),
    Flag("ipc", help="IPC mode to use"),
    Flag("label l", "list", "Set meta data on a container"),
    Flag("log-driver", help="Logging driver for the container"),
    Flag("log-opt", "list", "Log driver options"),
    Flag("mac-address", help="Container MAC address"),
    Flag("memory m", help="Memory limit"),
    Flag("memory-reservation", help="Memory soft limit"),
    Flag("memory-swap", help="Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Flag("mount", "list", "Attach a filesystem mount to the container"),
    Flag("name", help="Assign a name to the container"),
    Flag("network net", help="Connect a container to a network"),
    Flag("network-alias net-alias", "list", "Add network-scoped alias for the container"),
    Flag("no-healthcheck", "bool", "Disable any container-specified HEALTHCHECK"),
    Flag("oom-kill-disable", "bool", "Disable OOM Killer"),
    Flag("oom-score-adj", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", help="PID namespace to use"),
    Flag("pids-limit", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("platform", help="Set platform if server is multi-platform capable"),
    Flag("privileged", "bool", "Give extended privileges to this container"),
    Flag("publish p", "list", "Publish a container's port(s) to the host"),
    Flag("publish-all P", "bool", "Publish all exposed ports to random ports"),
    Flag("pull", help='Pull image before running ("always", "missing", "never")', default="missing"),
    Flag("quiet q", "bool", "Suppress the pull output"),
    Flag("read-only", "bool", "Mount the container's root filesystem as read only"),
    Flag("restart", help="Restart policy to apply when a container exits"),
    Flag("rm", "bool", "Automatically remove the container when it exits"),
    Flag("runtime", help="Runtime to use for this container"),
    Flag("security-opt", "list", "Security Options"),
    Flag("shm-size", help="Size of /dev/shm"),
    Flag("stop-signal", help="Signal to stop the container"),
    Flag("stop-timeout", "int", "Timeout (in seconds) to stop a container"),
    Flag("sysctl", "list", "Sysctl options"),
    Flag("tmpfs", "list", "Mount a tmpfs directory"),
    Flag("tty t", "bool", "Allocate a pseudo-TTY"),
    Flag("ulimit", "list", "Ulimit options"),
    Flag("user u", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("userns", help="User namespace to use"),
    Flag("uts", help="UTS namespace to use"),
    Flag("volume v", "list", "Bind mount a volume"),
    Flag("volume-driver", help="Optional volume driver for the container"),
    Flag("volumes-from", "list", "Mount volumes from the specified container(s)"),
    Flag("workdir w", help="Working directory inside the container"),
)
# Compiled only when a port is published: it costs as much as the rest of this module.
_PORT = (
    r"^(?:(?:\[(?P<ip6>[^\]]+)\]|(?P<ip>\d+(?:\.\d+){3})):)?"
    r"(?:(?P<host>\d*(?:-\d+)?):)?(?P<cont>\d+(?:-\d+)?)(?:/(?P<proto>\w+))?$"
)


def environment(options: Options) -> list[str]:
    """`--env-file` lines, then `-e`; a bare name takes the caller's value."""
    words = []
    for path in options["env-file"]:
        try:
            with open(path, encoding="utf-8") as lines:
                words += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        except OSError as err:
            raise UsageError(f"open {path}: {(err.strerror or '').lower()}") from err
    out = []
    for word in [*words, *options["env"]]:
        name = word.partition("=")[0]
        if not name:
            raise UsageError(f'invalid argument "{word}" for "-e, --env" flag: invalid environment variable: {word}')
        if "=" in word:
            out.append(word)
        else:
            # A name alone, of which the caller has no value either, takes the image's variable away.
            out.append(f"{name}={os.environ[name]}" if name in os.environ else name)
    return out


def pairs(words: list[str]) -> dict[str, str]:
    """ "A=B" words as a dict; a bare name has an empty value."""
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def ports(publish: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ExposedPorts, PortBindings) of `-p [ip:][host:]container[/proto]`. UsageError in docker's words."""
    exposed: dict[str, Any] = {}
    bindings: dict[str, Any] = {}
    for word in publish:
        match = re.match(_PORT, word)
        if not match:
            raise UsageError(f'invalid argument "{word}" for "-p, --publish" flag: invalid containerPort: {word}')
        inside = _range(match["cont"])
        outside: list[int | str] = list(_range(match["host"])) if match["host"] else [""] * len(inside)
        if len(outside) != len(inside):
            if len(inside) != 1:
                raise UsageError(f"invalid ranges specified for container and host Ports: {word}")
            outside = [match["host"]]
        for number, host in zip(inside, outside, strict=True):
            if number > 65535:
                raise UsageError(f'invalid argument "{word}" for "-p, --publish" flag: invalid containerPort: {number}')
            key = f"{number}/{(match['proto'] or 'tcp').lower()}"
            exposed[key] = {}
            address = match["ip6"] or match["ip"] or ""
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": str(host)})
    return exposed, bindings


def mount(word: str) -> dict[str, Any]:
    """One `--mount type=bind,src=...,dst=...` as an API Mount. UsageError in docker's words."""
    out: dict[str, Any] = {"Type": "volume"}
    for field in word.split(","):
        key, has_value, value = field.partition("=")
        key = key.lower()
        if key == "type":
            out["Type"] = value.lower()
        elif key in ("source", "src"):
            out["Source"] = os.path.abspath(value) if value.startswith(".") else value
        elif key in ("target", "dst", "destination"):
            out["Target"] = value
        elif key in ("readonly", "ro"):
            out["ReadOnly"] = not has_value or value in ("1", "true")
        elif key == "bind-propagation":
            out.setdefault("BindOptions", {})["Propagation"] = value
        elif key == "bind-nonrecursive":
            out.setdefault("BindOptions", {})["NonRecursive"] = not has_value or value in ("1", "true")
        elif key == "volume-nocopy":
            out.setdefault("VolumeOptions", {})["NoCopy"] = not has_value or value in ("1", "true")
        elif key == "volume-driver":
            out.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value
        elif key == "volume-opt":
            name, _, text = value.partition("=")
            driver = out.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
            driver.setdefault("Options", {})[name] = text
        elif key == "tmpfs-size":
            out.setdefault("TmpfsOptions", {})["SizeBytes"] = parse_size(value)
        elif key == "tmpfs-mode":
            out.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
        else:
            raise UsageError(f"invalid argument \"{word}\" for \"--mount\" flag: unexpected key '{key}' in '{field}'")
    if not out.get("Target"):
        raise UsageError(f'invalid argument "{word}" for "--mount" flag: target is required')
    return out


def _volumes(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """(Binds, Volumes): a word with a colon binds, a bare path is an anonymous volume."""
    binds: list[str] = []
    anonymous: dict[str, Any] = {}
    for word in words:
        if ":" not in word:
            anonymous[word] = {}
            continue
        source, _, rest = word.partition(":")
        if source.startswith((".", "~")):
            source = os.path.abspath(os.path.expanduser(source))
        binds.append(f"{source}:{rest}")
    return binds, anonymous


def _device(word: str) -> dict[str, str]:
    parts = word.split(":")
    inside, mode = parts[0], "rwm"
    if len(parts) == 2 and re.fullmatch("[rwm]{1,3}", parts[1]):
        mode = parts[1]
    elif len(parts) >= 2:
        inside = parts[1]
        mode = parts[2] if len(parts) > 2 else mode
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": mode}


def _ulimit(word: str) -> dict[str, Any]:
    name, _, values = word.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise UsageError(f'invalid argument "{word}" for "--ulimit" flag: invalid ulimit argument: {word}') from None


def _security(words: list[str]) -> list[str]:
    """`seccomp=FILE` carries the file's text; everything else goes as it is."""
    out = []
    for word in words:
        key, separator, value = word.replace(":", "=", 1).partition("=") if "=" not in word else word.partition("=")
        if key == "seccomp" and separator and value not in ("unconfined", "builtin"):
            try:
                with open(value, encoding="utf-8") as profile:
                    word = f"seccomp={profile.read()}"
            except OSError as err:
                raise UsageError(f"opening seccomp profile ({value}) failed: {err.strerror}") from err
        out.append(word)
    return out


def _restart(word: str) -> dict[str, Any]:
    name, _, count = word.partition(":")
    return {"Name": name or "no", "MaximumRetryCount": int(count) if count.isdigit() else 0}


def _health(options: Options) -> dict[str, Any] | None:
    if options["no-healthcheck"]:
        return {"Test": ["NONE"]}
    health: dict[str, Any] = {}
    if options["health-cmd"]:
        health["Test"] = ["CMD-SHELL", options["health-cmd"]]
    for flag, key in (("interval", "Interval"), ("timeout", "Timeout"), ("start-period", "StartPeriod")):
        if options[f"health-{flag}"]:
            health[key] = parse_duration(options[f"health-{flag}"])
    if options["health-retries"]:
        health["Retries"] = options["health-retries"]
    return health or None


def _resources(o: Options) -> dict[str, Any]:
    out: dict[str, Any] = {
        "BlkioWeight": o["blkio-weight"],
        "CgroupParent": o["cgroup-parent"],
        "CpuPeriod": o["cpu-period"],
        "CpuQuota": o["cpu-quota"],
        "CpuShares": o["cpu-shares"],
        "CpusetCpus": o["cpuset-cpus"],
        "CpusetMems": o["cpuset-mems"],
        "Devices": [_device(word) for word in o["device"]],
        "DeviceCgroupRules": o["device-cgroup-rule"],
        "OomKillDisable": o["oom-kill-disable"],
        "PidsLimit": o["pids-limit"] or None,
        "Ulimits": [_ulimit(word) for word in o["ulimit"]],
    }
    for flag, key in (("memory", "Memory"), ("memory-reservation", "MemoryReservation"), ("shm-size", "ShmSize")):
        out[key] = parse_size(o[flag]) if o[flag] else 0
    out["MemorySwap"] = -1 if o["memory-swap"] == "-1" else parse_size(o["memory-swap"]) if o["memory-swap"] else 0
    if o["cpus"]:
        try:
            out["NanoCpus"] = round(float(o["cpus"]) * 1e9)
        except ValueError:
            raise UsageError(f'invalid argument "{o["cpus"]}" for "--cpus" flag: failed to parse {o["cpus"]}') from None
    return out


def _host_config(o: Options, bindings: dict[str, Any], binds: list[str]) -> dict[str, Any]:
    return {
        **_resources(o),
        "Annotations": pairs(o["annotation"]),
        "AutoRemove": o["rm"],
        "Binds": binds or None,
        "CapAdd": o["cap-add"],
        "CapDrop": o["cap-drop"],
        "CgroupnsMode": o["cgroupns"],
        "ConsoleSize": list(window_size(1)) if o["tty"] else [0, 0],
        "ContainerIDFile": o["cidfile"],
        "Dns": o["dns"],
        "DnsOptions": o["dns-option"],
        "DnsSearch": o["dns-search"],
        "ExtraHosts": [word.replace("=", ":", 1) for word in o["add-host"]],
        "GroupAdd": o["group-add"],
        "Init": True if o["init"] else None,
        "IpcMode": o["ipc"],
        "LogConfig": {"Type": o["log-driver"], "Config": pairs(o["log-opt"])},
        "Mounts": [mount(word) for word in o["mount"]],
        "NetworkMode": o["network"] or "default",
        "OomScoreAdj": o["oom-score-adj"],
        "PidMode": o["pid"],
        "PortBindings": bindings,
        "Privileged": o["privileged"],
        "PublishAllPorts": o["publish-all"],
        "ReadonlyRootfs": o["read-only"],
        "RestartPolicy": _restart(o["restart"]),
        "Runtime": o["runtime"],
        "SecurityOpt": _security(o["security-opt"]),
        "Sysctls": pairs(o["sysctl"]),
        "Tmpfs": {path: more for path, _, more in (word.partition(":") for word in o["tmpfs"])},
        "UTSMode": o["uts"],
        "UsernsMode": o["userns"],
        "VolumeDriver": o["volume-driver"],
        "VolumesFrom": o["volumes-from"],
    }


def request_of(o: Options, *, attached: bool) -> dict[str, Any]:
    """The whole body. `attached` is whether this command will carry the streams (false: `-d`, `create`)."""
    exposed, bindings = ports(o["publish"])
    for word in o["expose"]:
        numbers, _, proto = word.partition("/")
        exposed.update({f"{number}/{proto or 'tcp'}": {} for number in _range(numbers)})
    binds, anonymous = _volumes(o["volume"])
    streams = {name.lower() for name in o["attach"]} or {"stdout", "stderr", *(["stdin"] if o["interactive"] else [])}
    network = o["network"] or "default"
    endpoint: dict[str, Any] = {}
    if o["ip"]:
        endpoint["IPAMConfig"] = {"IPv4Address": o["ip"]}
    if o["network-alias"]:
        endpoint["Aliases"] = o["network-alias"]
    if o["mac-address"]:
        endpoint["MacAddress"] = o["mac-address"]
    return {
        "Hostname": o["hostname"],
        "Domainname": o["domainname"],
        "User": o["user"],
        "AttachStdin": attached and o["interactive"] and "stdin" in streams,
        "AttachStdout": attached and "stdout" in streams,
        "AttachStderr": attached and "stderr" in streams,
        "Tty": o["tty"],
        "OpenStdin": o["interactive"],
        "StdinOnce": o["interactive"] and attached,
        "Env": environment(o),
        "Cmd": o.args[1:] or None,
        "Image": o.args[0],
        "Volumes": anonymous,
        "WorkingDir": o["workdir"],
        "Entrypoint": ([o["entrypoint"]] if o["entrypoint"] else [""]) if "entrypoint" in o.given else None,
        "Labels": pairs(o["label"]),
        "StopSignal": o["stop-signal"],
        "StopTimeout": o["stop-timeout"] if "stop-timeout" in o.given else None,
        "Healthcheck": _health(o),
        "ExposedPorts": exposed,
        "HostConfig": _host_config(o, bindings, binds),
        "NetworkingConfig": {"EndpointsConfig": {network: endpoint} if endpoint else {}},
    }
