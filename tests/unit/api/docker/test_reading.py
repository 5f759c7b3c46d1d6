"""Requests' JSON as Go's encoding/json would read it."""

from __future__ import annotations

import msgspec
import pytest

from sampan.api.docker.containers import CreateRequest, ExecCreateRequest
from sampan.api.docker.networks import NetworkCreateRequest
from sampan.api.docker.reading import TrailingContent, parse
from sampan.api.docker.volumes import VolumeCreateOptions


def test_keys_count_in_any_case_at_every_depth() -> None:
    body = b"""{"image": "x", "HOSTCONFIG": {"memory": 5, "portbindings": {"80/tcp": [{"hostport": "81"}]}},
                "unknown": 1, "Labels": {"Kept": "as is"}}"""
    found = parse(body, CreateRequest)
    bindings = found.host_config.port_bindings["80/tcp"]
    assert (found.image, found.host_config.memory, found.labels) == ("x", 5, {"Kept": "as is"})
    assert bindings is not None and bindings[0].host_port == "81"


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b" {} "])
def test_nothing_and_null_are_an_empty_document(body: bytes) -> None:
    assert parse(body, CreateRequest) == CreateRequest()
    assert parse(body, VolumeCreateOptions) == VolumeCreateOptions()


def test_text_that_is_no_utf8_is_mended_and_not_refused() -> None:
    assert parse(b'{"Image":"\xff"}', CreateRequest).image == "\ufffd"


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (CreateRequest, b"{nothing", "invalid character 'n' looking for beginning of object key string"),
        (CreateRequest, b" ", "got EOF while reading request body"),
        (CreateRequest, b"[]", "json: cannot unmarshal array into Go value of type CreateRequest"),
        (
            CreateRequest,
            b'{"HostConfig":{"Memory":"1"}}',
            "json: cannot unmarshal string into Go struct field CreateRequest.HostConfig.Memory of type int64",
        ),
        (
            ExecCreateRequest,
            b'{"Cmd":"true"}',
            "json: cannot unmarshal string into Go struct field ExecCreateRequest.Cmd of type []string",
        ),
        (
            NetworkCreateRequest,
            b'{"Name":1}',
            "json: cannot unmarshal number into Go struct field NetworkCreateRequest.Name of type string",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_gos_words(kind: type[msgspec.Struct], body: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        parse(body, kind)
    assert str(caught.value) == complaint


def test_a_second_value_is_refused_and_a_stray_bracket_is_not() -> None:
    with pytest.raises(TrailingContent, match="unexpected content after JSON"):
        parse(b"{} trailing", CreateRequest)
    assert parse(b"{}}", CreateRequest) == CreateRequest()
