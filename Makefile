# setup: .venv with everything; check: style and types; test: all tests (installs what they need); bench: figures
.PHONY: setup check test unit bench clean protobuf
PY = .venv/bin/python

setup: .venv/.installed-dev

.venv/.installed-dev: pyproject.toml scripts/venv
	@scripts/venv dev

check: setup
	.venv/bin/ruff check src tests bench fuzz
	.venv/bin/ruff format --check src tests bench fuzz
	.venv/bin/mypy

test: setup
	@scripts/peers
	$(PY) -m pytest

unit: setup
	$(PY) -m pytest tests/unit tests/arch

bench: setup
	@scripts/peers
	$(PY) -m bench.compare

# the Python modules of api/containerd from their .proto files; both are checked in
protobuf:
	@scripts/protobuf

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
