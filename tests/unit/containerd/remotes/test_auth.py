"""Challenges and the answers to them, against a table of exchanges instead of a network."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.containerd.remotes import auth
from sampan.containerd.remotes.hosts import RegistrySettings, is_insecure
from sampan.containerd.services import Credentials

SCOPE = "repository:x:pull"


@pytest.mark.parametrize(
    "header, found",
    [('Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a:pull,push"',
      ("bearer", {"realm": "https://a/t?x=1,2", "service": "s", "scope": "repository:a:pull,push"})),
     ('BASIC realm="a \\"b\\""', ("basic", {"realm": 'a "b"'})),
     ("Bearer realm=token , service = x", ("bearer", {"realm": "token", "service": "x"})),
     ("Negotiate", ("negotiate", {})), ("Basic", ("basic", {}))],
)  # fmt: skip
def test_challenges_are_read(header, found):
    assert auth.challenges([header]) == [found]


@given(st.lists(st.text(max_size=60), max_size=3))
def test_any_header_is_read_without_a_failure(headers):
    auth.challenges(headers)


class Server:
    """A token server by table; what it was asked."""

    def __init__(self, status: int = 200, **document: object) -> None:
        self.status, self.document = status, document or {"token": "t"}
        self.asked: list[tuple[str, str, dict[str, str], bytes | None]] = []

    async def __call__(self, method, url, headers, body):
        self.asked.append((method, url, dict(headers), body))
        return self.status, json.dumps(self.document).encode()


def header(server, credentials=None, challenge='Bearer realm="https://auth.test/token",service="s"', host="r.test"):
    authorizer = auth.Authorizer(
        host, credentials or Credentials(), server, lambda one: is_insecure(RegistrySettings(), one)
    )
    authorizer.challenged(auth.challenges([challenge]))
    return asyncio.run(authorizer.header(SCOPE))


def test_nothing_is_sent_unasked():
    authorizer = auth.Authorizer("r.test", Credentials("alice", "secret"), Server(), lambda one: False)
    assert asyncio.run(authorizer.header(SCOPE)) == ""


def test_an_anonymous_token_is_fetched_by_get():
    server = Server(token="abc")
    assert header(server) == "Bearer abc"
    [(method, url, headers, body)] = server.asked
    assert (method, url) == ("GET", "https://auth.test/token?service=s&scope=repository%3Ax%3Apull")
    assert (headers, body) == ({}, None)


def test_a_password_goes_to_the_token_server_as_basic():
    server = Server(access_token="abc")
    assert header(server, Credentials("alice", "secret")) == "Bearer abc"
    assert server.asked[0][2] == {"Authorization": auth.basic("alice", "secret")}
    assert "account=alice" in server.asked[0][1]


def test_an_identity_token_is_posted_as_refresh_token():
    server = Server(access_token="abc")
    assert header(server, Credentials(identity_token="idt")) == "Bearer abc"
    [(method, url, _, body)] = server.asked
    assert (method, url) == ("POST", "https://auth.test/token")
    assert b"grant_type=refresh_token&refresh_token=idt" in body


def test_a_registry_token_is_used_as_it_is():
    server = Server()
    assert header(server, Credentials(registry_token="given")) == "Bearer given"
    assert server.asked == []


def test_basic_needs_a_user():
    assert header(Server(), Credentials("alice", "pw"), "Basic realm=x") == "Basic YWxpY2U6cHc="
    with pytest.raises(errors.Unauthorized, match="no basic auth credentials"):
        header(Server(), None, "Basic realm=x")


def test_a_password_does_not_cross_the_network_in_the_clear():
    server = Server()
    for realm in ("http://auth.test/token", "ftp://auth.test", "/token", ""):
        with pytest.raises(errors.Unauthorized):
            header(server, Credentials("alice", "secret"), f'Bearer realm="{realm}"')
    assert server.asked == []
    assert header(server, Credentials("a", "b"), 'Bearer realm="http://127.0.0.1:1/token"') == "Bearer t"


@pytest.mark.parametrize(
    "server, message",
    [(Server(401, errors=[{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]),
      "unauthorized: incorrect username or password"),
     (Server(401, details="bad"), "unauthorized: bad"), (Server(401, x=1), "unauthorized: authentication required"),
     (Server(500, x=1), "token server answered 500"), (Server(200, x=1), "did not include a token"),
     (Server(200, token=""), "did not include a token"), (Server(200, token="a\r\nHost: b"), "did not include a token"),
     (Server(200, token="\u2028"), "did not include a token")],
)  # fmt: skip
def test_a_refusing_token_server_is_unauthorized(server, message):
    with pytest.raises(errors.Unauthorized, match=message):
        header(server)


@pytest.mark.parametrize("status", [200, 401])
def test_a_document_nested_without_end_is_unauthorized(status):
    class Deep(Server):
        async def __call__(self, method, url, headers, body):
            return status, b"[" * 60_000

    with pytest.raises(errors.Unauthorized):
        header(Deep())


def test_tokens_are_kept_until_they_are_refused():
    server = Server(token="t", expires_in=300)
    authorizer = auth.Authorizer("r.test", Credentials(), server, lambda one: False)
    authorizer.challenged(auth.challenges(['Bearer realm="https://a.test/",service="s"']))

    async def body():
        for _ in range(3):
            await authorizer.header(SCOPE)
        assert len(server.asked) == 1
        await authorizer.header("repository:y:pull")
        assert len(server.asked) == 2
        authorizer.drop(SCOPE)
        await authorizer.header(SCOPE)
        assert len(server.asked) == 3

    asyncio.run(body())
