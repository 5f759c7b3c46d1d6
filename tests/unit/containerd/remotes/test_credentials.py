"""docker's config.json and its credential helpers, which are real programs here."""

from __future__ import annotations

import asyncio
import base64
import json
import stat

import pytest

from sampan import errors
from sampan.containerd.remotes.credentials import lookup
from sampan.containerd.services import Credentials

HUB = "https://index.docker.io/v1/"


def auth(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def look(tmp_path, monkeypatch):
    """look(document, host) with a PATH that only has the helpers that `helper` made."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    def go(document, host):
        (tmp_path / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
        return asyncio.run(lookup(str(tmp_path / "config.json"), host))

    return go


@pytest.fixture
def helper(tmp_path):
    def make(name, script):
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r server\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def test_a_stored_password_is_found_by_host(look):
    document = {"auths": {"r.test:5000": auth("alice", "open:sesame"), HUB: auth("hubby", "x")}}
    assert look(document, "r.test:5000") == Credentials("alice", "open:sesame")
    assert look(document, "r.test") == Credentials()
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        assert look(document, name) == Credentials("hubby", "x")


def test_a_key_that_is_a_url_names_its_host(look):
    assert look({"auths": {"https://r.test/v1/": auth("a", "b")}}, "r.test") == Credentials("a", "b")


def test_tokens_are_found_beside_the_password(look):
    entry = {**auth("a", "b"), "identitytoken": "idt", "registrytoken": "rt"}
    assert look({"auths": {"r.test": entry}}, "r.test") == Credentials("a", "b", "idt", "rt")


def test_nothing_is_found_where_nothing_is(look, tmp_path):
    assert look({}, "r.test") == Credentials()
    assert look({"auths": {"r.test": {}}}, "r.test") == Credentials()
    assert asyncio.run(lookup(str(tmp_path / "missing.json"), "r.test")) == Credentials()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": [1]}', '{"credHelpers": 1}', '{"auths": {"r.test": {"auth": "x"}}}']
)
def test_a_broken_file_is_refused(look, text):
    with pytest.raises(errors.InvalidArgument):
        look(text, "r.test")


def test_a_helper_is_asked_for_its_host_and_the_store_for_all_others(look, helper):
    helper("one", """printf '{"ServerURL":"%s","Username":"one","Secret":"for %s"}' "$server" "$server" """)
    helper("all", """printf '{"ServerURL":"%s","Username":"<token>","Secret":"for %s"}' "$server" "$server" """)
    document = {"credHelpers": {"r.test": "one"}, "credsStore": "all", "auths": {"r.test": auth("no", "no")}}
    assert look(document, "r.test") == Credentials("one", "for r.test")
    assert look(document, "docker.io") == Credentials(identity_token=f"for {HUB}")


def test_a_helper_without_credentials_means_none(look, helper):
    helper("empty", "echo 'credentials not found in native keychain'; exit 1")
    document = {"credsStore": "empty", "auths": {"r.test": auth("a", "b")}}
    assert look(document, "r.test") == Credentials("a", "b"), "the file still counts"
    assert look({**document, "credHelpers": {"r.test": "empty"}}, "r.test") == Credentials()


@pytest.mark.parametrize(
    "script, complaint",
    [("echo locked; exit 1", "error getting credentials - err: exit status 1, out: `locked`"),
     ("echo '{\"Username\": 1'", "gave no credentials document"), ("echo '{}'", "gave no credentials document")],
)  # fmt: skip
def test_a_helper_that_fails_is_told_in_dockers_words(look, helper, script, complaint):
    helper("bad", script)
    with pytest.raises(errors.Error) as failed:
        look({"credsStore": "bad"}, "r.test")
    assert complaint in str(failed.value)


def test_a_helper_that_is_missing_or_no_name_is_told(look):
    with pytest.raises(errors.Error) as failed:
        look({"credsStore": "none"}, "r.test")
    assert str(failed.value) == (
        'error getting credentials - err: exec: "docker-credential-none": executable file not found in $PATH, out: ``'
    )
    with pytest.raises(errors.InvalidArgument, match="invalid credential helper"):
        look({"credsStore": "../../bin/sh"}, "r.test")
