"""Where a registry is looked for, and when plain HTTP is allowed."""

import ssl
from dataclasses import replace

import pytest

from sampan import errors
from sampan.containerd.remotes.hosts import RegistrySettings, endpoints, is_insecure
from sampan.containerd.remotes.trust import Trust

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


class TestDirectories:
    """Where `hosts.toml` and certificates of a registry are looked for."""

    @pytest.fixture
    def settings(self, tmp_path):
        return RegistrySettings(hosts_directories=(str(tmp_path / "first"), str(tmp_path / "second")))

    def put(self, tmp_path, name, text='[host."https://mirror.test"]\n'):
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "hosts.toml").write_text(text)

    def bases(self, settings, domain):
        return [way.base for way in flat(settings, domain)]

    def test_the_host_with_its_port_is_spelled_in_two_ways(self, settings, tmp_path):
        self.put(tmp_path, "first/r.test_5000_")
        self.put(tmp_path, "first/q.test:5000")
        for domain in ("r.test:5000", "q.test:5000"):
            assert self.bases(settings, domain) == ["https://mirror.test", f"https://{domain}"]
        assert self.bases(settings, "r.test") == ["https://r.test"]

    def test_default_is_for_all_that_have_none_anywhere(self, settings, tmp_path):
        self.put(tmp_path, "first/_default")
        self.put(tmp_path, "second/r.test", 'server = "https://other.test"\n')
        assert self.bases(settings, "r.test") == ["https://other.test"]
        assert self.bases(settings, "docker.io") == ["https://mirror.test", "https://registry-1.docker.io"]

    def test_the_engines_mirrors_come_before_the_files(self, settings, tmp_path):
        self.put(tmp_path, "second/docker.io")
        both = replace(settings, mirrors=("https://m.test/sub",))
        mirror, other, hub = flat(both, "docker.io")
        assert (mirror.api, "push" in mirror.capabilities) == ("https://m.test/sub/v2", False)
        assert (other.base, hub.base) == ("https://mirror.test", "https://registry-1.docker.io")

    def test_a_mirror_is_told_for_whom_and_the_registry_is_not(self, settings, tmp_path):
        self.put(tmp_path, "first/r.test", 'server = "https://r.test"\n[host."https://mirror.test"]\n')
        self.put(tmp_path, "first/q.test", 'server = "https://elsewhere.test"\n')
        mirror, own = flat(settings, "r.test")
        assert (mirror.mirror, mirror.namespace) == (True, "r.test")
        assert (own.mirror, own.namespace) == (False, "")
        [elsewhere] = flat(settings, "q.test")
        assert (elsewhere.mirror, elsewhere.namespace) == (False, "q.test")

    def test_plain_http_and_no_verification_are_what_the_administrator_wrote(self, settings, tmp_path):
        text = '[host."http://a.test"]\n[host."https://b.test"]\nskip_verify = true\n[host."https://c.test"]\n'
        self.put(tmp_path, "first/r.test", text)
        plain, unverified, verified, own = flat(settings, "r.test")
        assert plain.trust is None
        assert [way.trust.verify for way in (unverified, verified, own)] == [False, True, True]

    def test_the_top_of_the_file_is_about_the_registry_itself(self, settings, tmp_path):
        self.put(tmp_path, "first/r.test", 'capabilities = ["pull"]\ndial_timeout = "2s"\n[header]\nx = "y"\n')
        [own] = flat(settings, "r.test")
        assert (own.base, own.capabilities, own.headers) == ("https://r.test", frozenset(("pull",)), (("x", "y"),))
        assert own.dial_timeout == 2.0

    def test_an_empty_file_says_nothing_and_a_broken_one_is_named(self, settings, tmp_path):
        self.put(tmp_path, "first/r.test", "")
        self.put(tmp_path, "first/q.test", "[host")
        assert self.bases(settings, "r.test") == ["https://r.test"]
        with pytest.raises(errors.InvalidArgument, match=r'cannot use ".*first/q.test/hosts.toml": failed to parse'):
            flat(settings, "q.test")

    def test_dockers_layout_counts_beside_no_file(self, settings, tmp_path):
        directory = tmp_path / "second/r.test"
        directory.mkdir(parents=True)
        for name in ("ca.crt", "us.cert", "us.key", "README"):
            (directory / name).touch()
        [own] = flat(settings, "r.test")
        assert own.trust == Trust(True, (f"{directory}/ca.crt",), ((f"{directory}/us.cert", f"{directory}/us.key"),))
        (directory / "us.cert").unlink()
        with pytest.raises(errors.InvalidArgument, match=r"missing client certificate us\.cert for key us\.key"):
            flat(settings, "r.test")

    def test_a_certificate_that_is_none_is_named(self, settings, tmp_path):
        directory = tmp_path / "second/r.test"
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_text("nothing")
        [own] = flat(settings, "r.test")
        with pytest.raises(errors.InvalidArgument, match=r'cannot use ".*ca.crt"'):
            _ = own.ssl
