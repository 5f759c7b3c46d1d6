"""Sizes and times in go-units' forms."""

import pytest

from sampan.cli import units


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048), ("1 kb", 1024)]
)
def test_a_size_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "1x", "-1", "1mm"])
def test_a_wrong_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "ns"), [("0", 0), ("1s", 10**9), ("1h2m3.5s", 3723500000000), ("100ms", 10**8), ("2us", 2000)]
)
def test_a_duration_is_read_as_go_reads_it(text: str, ns: int) -> None:
    assert units.parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "1", "s", "1s2"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (999, "999B"), (1984512, "1.98MB"), (72900000, "72.9MB"), (5 * 10**9, "5GB")]
)
def test_a_size_is_shown_with_docker_s_digits(size: int, text: str) -> None:
    assert units.human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (600, "10 minutes"),
        (3700, "About an hour"),
        (47 * 3600, "47 hours"),
        (49 * 3600, "2 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_a_duration_is_shown_in_docker_s_words(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


def test_an_rfc_3339_time_is_read_with_its_zone_and_go_s_zero_time_is_none() -> None:
    assert units.epoch_of("1970-01-02T00:00:00.5Z") == 86400.5
    assert units.epoch_of("1970-01-02T02:00:00+02:00") == 86400
    assert units.epoch_of("0001-01-01T00:00:00Z") == 0
