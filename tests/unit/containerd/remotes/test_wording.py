"""Registry failures in docker's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.containerd.remotes import wording
from sampan.containerd.remotes.client import retry_after
from sampan.oci.reference import parse_normalized

APP = parse_normalized("user/app:1")


def refused(status, code, message, challenges=()):
    body = b'{"errors": [{"code": "%s", "message": "%s"}]}' % (code.encode(), message.encode())
    return wording.refusal(status, body, list(challenges), None)


@pytest.mark.parametrize(
    "status, code, message, kind, text",
    [(404, "MANIFEST_UNKNOWN", "manifest unknown", errors.NotFound,
      "manifest for user/app:1 not found: manifest unknown: manifest unknown"),
     (404, "NAME_UNKNOWN", "repository name not known to registry", errors.NotFound,
      "repository user/app not found: name unknown: repository name not known to registry"),
     (403, "DENIED", "requested access to the resource is denied", errors.NotFound,
      "pull access denied for user/app, repository does not exist or may require 'docker login': "
      "denied: requested access to the resource is denied"),
     (401, "UNAUTHORIZED", "authentication required", errors.Unauthorized, "unauthorized: authentication required"),
     (429, "TOOMANYREQUESTS", "You have reached your limit", errors.Unavailable,
      "toomanyrequests: You have reached your limit"),
     (500, "UNKNOWN", "broken", errors.Unavailable, "unknown: broken"),
     (400, "UNSUPPORTED", "no", errors.Error, "unsupported: no")],
)  # fmt: skip
def test_an_error_answer_is_told_as_docker_tells_it(status, code, message, kind, text):
    error = wording.pull_error(refused(status, code, message), APP)
    assert (type(error), str(error)) == (kind, text)


def test_a_scope_that_is_missing_is_access_denied():
    found = refused(401, "UNAUTHORIZED", "x", [("bearer", {"error": "insufficient_scope"})])
    assert str(wording.pull_error(found, APP)).startswith("pull access denied for user/app, ")


@pytest.mark.parametrize(
    "status, text",
    [(401, "unauthorized: authentication required"), (418, "received unexpected HTTP status: 418: <html>")],
)
def test_an_answer_without_the_errors_document_is_told_by_its_status(status, text):
    assert str(wording.refusal(status, b"<html>", [], None)) == text
    assert wording.refusal(status, b"[" * 60_000, [], None).status == status


def test_a_bare_404_is_an_unknown_manifest():
    found = wording.pull_error(wording.refusal(404, b"", [], None), APP)
    assert str(found) == "manifest for user/app:1 not found: manifest unknown: manifest unknown"


@given(st.integers(400, 599), st.binary(max_size=200))
def test_any_body_is_worded(status, body):
    assert str(wording.pull_error(wording.refusal(status, body, [], None), APP))


def test_retry_after_is_seconds_or_a_date():
    assert retry_after("7") == 7.0
    assert retry_after("") is None
    assert retry_after("soon") is None
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 1e6
