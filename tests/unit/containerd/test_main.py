"""sampan-containerd's command line."""

from sampan.containerd import __main__ as command
from sampan.containerd.remotes.hosts import HOSTS_DIRECTORIES


def registries(*arguments: str):
    return command._registries(command._parser().parse_args(arguments))


def test_registries_are_where_containerd_and_docker_look_for_them():
    assert registries().hosts_directories == HOSTS_DIRECTORIES
    assert (registries().insecure, registries().credentials_file) == ((), "")


def test_registries_may_be_elsewhere():
    line = "--hosts-dir /a --hosts-dir /b --insecure-registry r.test --registry-auth-file /c.json"
    found = registries(*line.split())
    assert (found.hosts_directories, found.insecure, found.credentials_file) == (("/a", "/b"), ("r.test",), "/c.json")
