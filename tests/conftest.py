"""Options and the rule about what may be left out, for every kind of test."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from sampan.linux import process

PEERS = {
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "docker-registry": "docker-registry",
    "skopeo": "skopeo",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "openssl": "openssl",
}
"""Commands that tests drive, with the Debian package each comes from."""

ALONE = {"arch", "unit"}
"""The kinds that need nothing but Python: they neither wait nor share, and a failure of theirs is final.

A test of the other kinds is run a second time when it fails: it drives a kernel and other people's daemons, which have
races of their own. Each second run is told in the summary."""
UNSTEADY = 5
"""So many tests of one run may need a second one; with more of them the run fails, since something is wrong."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("sampan", "dockerd"),
        default=os.environ.get("SAMPAN_ENGINE", "sampan"),
        help="the engine the scenarios judge: sampan, or Debian's dockerd as the reference",
    )

    parser.addoption(
        "--client",
        choices=("docker", "sampan"),
        default="docker",
        help="the client that drives the scenarios: the docker command, or our own",
    )


def pytest_configure(config: pytest.Config) -> None:
    # a test run that is told to end takes its engines with it
    # Whatever started pytest may ignore signals (a shell's background job SIGINT and SIGQUIT, some runners signal 32),
    # and a peer passes them on to its containers where sampan does not: tests that compare the two start from none.
    process.default_signals()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # as Python itself has them; subprocess gives them back
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(*commands): a peer's command the test drives")
    config.addinivalue_line("markers", "sampan_only(reason): what the reference engine cannot show, and why")
    config.addinivalue_line("markers", "dockerd_only(reason): a fact of the reference that sampan does not share")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First what needs nothing: the runtime's own tests fork, which a process may only do without threads, and the
    # servers that fixtures of the other kinds start for the whole session are threads.
    items.sort(key=lambda item: not ALONE & set(item.path.relative_to(item.config.rootpath).parts))
    if not items or not items[0].config.pluginmanager.hasplugin("rerunfailures"):  # pytest -p no:rerunfailures
        return
    for item in items:
        if not ALONE & set(item.path.relative_to(item.config.rootpath).parts):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"first run of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    unsteady = {report.nodeid for report in reporter.stats.get("rerun", ())} if reporter else ()
    if len(unsteady) > UNSTEADY:
        reporter.write_line(f"{len(unsteady)} tests needed a second run; more than {UNSTEADY} are a failure", red=True)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = []
    wanted = {name for mark in item.iter_markers("needs") for name in mark.args}
    if (item.get_closest_marker("root") or wanted) and os.geteuid() != 0:
        missing.append("root")
    missing += [f"{name} (package {PEERS.get(name, name)})" for name in sorted(wanted) if not shutil.which(name)]
    if missing:
        leave_out("needs " + ", ".join(missing))


def leave_out(reason: str) -> None:
    """Skips the running test for a reason of this machine; in CI, where everything must be there, fails it."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(f"left out in CI: {reason}", pytrace=False)
    pytest.skip(reason)
