"""containerd's hosts.toml, against what its documentation and its own parser say of each field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.containerd.remotes import hosts_file
from sampan.containerd.remotes.trust import Trust

WHOLE = """
server = "https://registry.test"
ca = "own.pem"

[host."https://z.test:8443/prefix"]
  capabilities = ["pull", "Resolve"]
  ca = ["one.pem", "/abs/two.pem"]
  client = [["a.cert", "a.key"], ["b.cert", "b.key"]]
  dial_timeout = "1m30s"
  [host."https://z.test:8443/prefix".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a.test"]
  skip_verify = true
  client = "both.pem"

[host."bare.test"]
  client = ["first.pem", "second.pem"]

[host."https://override.test/v2/whole/"]
  override_path = true
"""


def test_a_whole_file_is_read_in_its_order_with_the_server_last():
    z, a, bare, override, server = hosts_file.parse(WHOLE, "/etc/d")
    assert (z.base, z.path, z.capabilities) == ("https://z.test:8443", "/prefix/v2", frozenset(("pull", "resolve")))
    clients = (("/etc/d/a.cert", "/etc/d/a.key"), ("/etc/d/b.cert", "/etc/d/b.key"))
    assert z.trust == Trust(True, ("/etc/d/one.pem", "/abs/two.pem"), clients)
    assert (z.headers, z.dial_timeout) == ((("x-one", "1"), ("x-two", "2"), ("x-two", "3")), 90.0)
    assert (a.base, a.path, a.capabilities) == ("http://a.test", "/v2", hosts_file.EVERYTHING)
    assert a.trust == Trust(False, (), (("/etc/d/both.pem", ""),))
    assert (bare.base, bare.trust.clients) == (
        "https://bare.test",
        (("/etc/d/first.pem", ""), ("/etc/d/second.pem", "")),
    )
    assert (override.base, override.path) == ("https://override.test", "/v2/whole")
    assert (server.base, server.trust.authorities) == ("https://registry.test", ("/etc/d/own.pem",))


def test_without_a_server_the_last_entry_is_the_registry_itself():
    [only] = hosts_file.parse('capabilities = ["pull"]', "/d")
    assert (only.base, only.capabilities, only.dial_timeout) == ("", frozenset(("pull",)), 0.0)


@pytest.mark.parametrize(
    "server, path",
    [("https://a.test", "/v2"), ("https://a.test/", "/v2"), ("https://a.test/v2", "/v2"), ("a.test/x//y/", "/x/y/v2"),
     ("https://a.test/x/v2/", "/x/v2")],
)  # fmt: skip
def test_the_apis_root_is_below_the_url(server, path):
    [entry] = hosts_file.parse(f'server = "{server}"', "/d")
    assert (entry.base, entry.path) == ("https://a.test", path)


@pytest.mark.parametrize(
    "text, complaint",
    [("server = 1", '"server" is not a string'), ("host = 1", "invalid `host` tree"), ("[host]\na = 1", "host"),
     ('[host."https://a"]\ncapabilities = ["fly"]', "unknown capability fly"),
     ('[host."https://a"]\ncapabilities = "pull"', "capabilities"),
     ('[host."https://a"]\ncapability = ["pull"]', "unknown field capability"),
     ('[host."https://a"]\nca = 1', '"ca"'), ('[host."https://a"]\nca = [1]', '"ca"'),
     ('[host."https://a"]\nclient = [["x"]]', "invalid pair"), ('[host."https://a"]\nclient = 1', '"client"'),
     ('[host."https://a"]\nskip_verify = "yes"', "skip_verify"),
     ('[host."https://a"]\nheader = "x"', "header"), ('[host."https://a".header]\nx = 1', 'header "x"'),
     ('[host."https://a".header]\nx = "a\\nb"', "invalid header"), ('[host."https://a".header]\n"x y" = "a"', "header"),
     ('[host."https://a"]\ndial_timeout = "5"', "dial_timeout"), ('[host."https://a"]\ndial_timeout = 5', "dial_time"),
     ('server = "https://u:p@a"', "unable to parse server"), ('server = "httpx://a"', "unable to parse server"),
     ("server = ", "failed to parse TOML")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(text, complaint):
    with pytest.raises(errors.InvalidArgument, match=complaint):
        hosts_file.parse(text, "/d")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        hosts_file.parse(text, "/d")
    except errors.InvalidArgument:
        pass
