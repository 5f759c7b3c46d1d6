"""Where a registry is looked for, and when plain HTTP is allowed."""

import ssl

import pytest

from sampan.containerd.remotes.hosts import RegistrySettings, endpoints, is_insecure

NOWHERE = "/nonexistent"


def bases(domain, **settings):
    return [e.base for e in flat(RegistrySettings(hosts_directories=(NOWHERE,), **settings), domain)]


def flat(settings, domain):
    return [way for ways in endpoints(settings, domain) for way in ways]


def test_docker_hub_is_asked_after_its_mirrors():
    assert bases("docker.io") == ["https://registry-1.docker.io"]
    assert bases("docker.io", mirrors=("https://m.test/", "http://n.test:5000")) == [
        "https://m.test",
        "http://n.test:5000",
        "https://registry-1.docker.io",
    ]
    assert bases("other.test", mirrors=("https://m.test",)) == ["https://other.test"]


@pytest.mark.parametrize("domain", ["127.0.0.1:5000", "127.8.9.1", "localhost", "localhost:5000", "[::1]:5000"])
def test_loopback_may_speak_plain_http(domain):
    assert bases(domain) == [f"https://{domain}", f"http://{domain}"]
    https, http = flat(RegistrySettings(hosts_directories=(NOWHERE,)), domain)
    assert https.ssl.verify_mode == ssl.CERT_NONE
    assert http.ssl is None


@pytest.mark.parametrize(
    "domain", ["r.test", "r.test:5000", "10.0.0.1:5000", "128.0.0.1", "localhost.evil.test", "[::2]"]
)
def test_others_may_not(domain):
    [only] = flat(RegistrySettings(hosts_directories=(NOWHERE,)), domain)
    assert only.base == f"https://{domain}"
    assert only.ssl.verify_mode == ssl.CERT_REQUIRED
    assert only.ssl.check_hostname


@pytest.mark.parametrize(
    "listed, domain, insecure",
    [("r.test:5000", "r.test:5000", True), ("r.test:5000", "r.test", False), ("r.test", "r.test:1", True),
     ("10.0.0.0/8", "10.1.2.3:5000", True), ("10.0.0.0/8", "11.1.2.3:5000", False), ("10.0.0.0/8", "r.test", False)],
)  # fmt: skip
def test_the_administrator_may_list_others(listed, domain, insecure):
    assert is_insecure(RegistrySettings(insecure=(listed,)), domain) is insecure
