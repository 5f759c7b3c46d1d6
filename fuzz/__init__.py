"""Garbage in, one error out: a target for each parser and codec, fed with mutations of real input.

    python -m fuzz                             every target, two seconds each
    python -m fuzz spec --seconds 600          one target, longer
    python -m fuzz spec --seed 7 --only 4711   one input again, as a finding names it

A target is a module of this package and a row in `targets.TARGETS`:

    SEEDS: list[bytes]                     good input to begin with
    ERRORS: tuple[type[Exception], ...]    what it may refuse with
    feed(data, random)                     give it to the parser; any other error that comes back is a finding
    mutate(data, random) -> bytes          only where changing bytes would not get far (default: `mutation.of_bytes`)

A short share of each, always the same inputs, runs with the tests (tests/contract/test_fuzz.py).
"""
