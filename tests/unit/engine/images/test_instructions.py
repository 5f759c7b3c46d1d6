"""Dockerfile instructions on a configuration."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.docker.containers import Config, HealthConfig
from sampan.engine.images import instructions
from sampan.errors import InvalidArgument

BEFORE = Config(env=["A=1", "B=2"], working_dir="/srv", labels={"k": "v"}, exposed_ports={"80/tcp": {}})


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ('CMD ["a", "b c"]', {"cmd": ["a", "b c"]}),
        ("cmd a b", {"cmd": ["/bin/sh", "-c", "a b"]}),
        ("CMD [not json", {"cmd": ["/bin/sh", "-c", "[not json"]}),
        ('ENTRYPOINT ["x"]', {"entrypoint": ["x"]}),
        ("ENV B=3 C='4 5'", {"env": ["A=1", "B=3", "C=4 5"]}),
        ('ENV D="a \\"b\\" c" E=x\\ y', {"env": ["A=1", "B=2", 'D=a "b" c', "E=x y"]}),
        ("ENV F several words", {"env": ["A=1", "B=2", "F=several words"]}),
        ("EXPOSE 443 53/udp 90-91", {"exposed_ports": {key: {} for key in (
            "80/tcp", "443/tcp", "53/udp", "90/tcp", "91/tcp")}}),
        ("LABEL k=w other=1", {"labels": {"k": "w", "other": "1"}}),
        ("USER sailor:boat", {"user": "sailor:boat"}),
        ("VOLUME /data /more", {"volumes": {"/data": {}, "/more": {}}}),
        ('VOLUME ["/a b"]', {"volumes": {"/a b": {}}}),
        ("WORKDIR sub//dir/", {"working_dir": "/srv/sub/dir"}),
        ("WORKDIR /", {"working_dir": "/"}),
        ("STOPSIGNAL SIGUSR1", {"stop_signal": "SIGUSR1"}),
        ("ONBUILD RUN make", {"on_build": ["RUN make"]}),
        ("HEALTHCHECK NONE", {"healthcheck": HealthConfig(test=["NONE"])}),
        ("HEALTHCHECK --interval=1m30s --retries=2 CMD curl localhost", {"healthcheck": HealthConfig(
            test=["CMD-SHELL", "curl localhost"], interval=90 * 10**9, retries=2)}),
        ('HEALTHCHECK CMD ["true"]', {"healthcheck": HealthConfig(test=["CMD", "true"])}),
    ],
)  # fmt: skip
def test_an_instruction_changes_what_it_names(line: str, changed: dict[str, Any]) -> None:
    assert instructions.apply(BEFORE, [line]) == msgspec.structs.replace(BEFORE, **changed)


def test_lines_are_joined_and_comments_left_out() -> None:
    found = list(instructions.lines(["# no\nENV A=1 \\\n  B=2\n\n", "USER x"]))
    assert found == ["ENV A=1   B=2", "USER x"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("RUN make", "run is not a valid change command"),
        ("FROM x", "from is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("LABEL a=1 b", 'Syntax error - can\'t find = in "b"'),
        ('ENV A="open', "looking for matching quote"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK TRY x", "Unknown type"),
        ("HEALTHCHECK --interval=x CMD y", "invalid duration"),
        ("HEALTHCHECK --nosuch=1 CMD y", "unknown flag: --nosuch"),
    ],
)
def test_what_is_no_instruction_is_refused_in_dockers_words(line: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        instructions.apply(BEFORE, [line])
    assert text in str(caught.value)


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_applied_or_refused(changes: list[str]) -> None:
    try:
        instructions.apply(BEFORE, changes)
    except InvalidArgument:
        pass


@given(
    st.sampled_from(["ENV", "LABEL", "EXPOSE", "VOLUME", "WORKDIR", "USER", "HEALTHCHECK", "ONBUILD"]),
    st.text(max_size=60),
)
def test_any_arguments_are_applied_or_refused(name: str, rest: str) -> None:
    try:
        instructions.apply(BEFORE, [f"{name} {rest}"])
    except InvalidArgument:
        pass
