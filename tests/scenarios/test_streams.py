"""Streams: stdin, stdout, stderr, terminals, detaching, signals and exit statuses."""

from __future__ import annotations

import itertools
import signal
import subprocess

import pytest
from tests.peers.client import Docker, Terminal
from tests.peers.waiting import eventually


def test_stdout_and_stderr_stay_apart(docker: Docker) -> None:
    outcome = docker("run", "--rm", "busybox", "sh", "-c", "echo to out; echo to err >&2; exit 3")
    assert outcome == (3, "to out\n", "to err\n")


def test_i_passes_piped_stdin_and_its_end(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "-i", "busybox", "wc", "-c", stdin=b"x" * 300_000) == "300000"


def test_what_is_piped_in_comes_out_unchanged(docker: Docker) -> None:
    sent = "".join(f"line {i}\n" for i in range(20_000))
    assert docker("run", "--rm", "-i", "busybox", "cat", stdin=sent).out == sent


def test_without_i_stdin_is_empty(docker: Docker) -> None:
    assert docker("run", "--rm", "busybox", "cat", stdin="ignored").out == ""


def test_output_after_stdin_has_ended_still_arrives(docker: Docker) -> None:
    script = "cat > /dev/null; sleep 0.2; echo late; echo later >&2"
    assert docker("run", "--rm", "-i", "busybox", "sh", "-c", script, stdin="a\n") == (0, "late\n", "later\n")


def test_a_lot_of_output_arrives_whole(docker: Docker) -> None:
    out = docker("run", "--rm", "busybox", "sh", "-c", "seq 1 200000").out
    assert out.splitlines() == [str(i) for i in range(1, 200_001)]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "exec sh -c 'kill -TERM $$; sleep 1; exit 5'"], 5),
        (["/etc/not-executable"], 126),
        (["/etc"], 126),
        (["/no/such/program"], 127),
        (["no-such-program"], 127),
    ],
)
def test_the_exit_status_is_docker_s(docker: Docker, command: list[str], status: int) -> None:
    assert docker("run", "--rm", "busybox", *command).status == status


def test_125_is_docker_s_own_failure(docker: Docker) -> None:
    assert docker("run", "--rm", "--no-such-flag", "busybox", "true").status == 125
    assert docker("run", "--rm", "-m", "1k", "busybox", "true").status == 125
    assert docker("run", "--rm", "-u", "no-such-user", "busybox", "true").status == 125


def test_a_missing_program_is_named_in_the_error(docker: Docker) -> None:
    outcome = docker("run", "--rm", "busybox", "no-such-program")
    assert 'exec: "no-such-program": executable file not found in $PATH' in outcome.err
    outcome = docker("run", "--rm", "busybox", "/no/such/program")
    assert 'exec: "/no/such/program": stat /no/such/program: no such file or directory' in outcome.err
    outcome = docker("run", "--rm", "busybox", "/etc/not-executable")
    assert 'exec: "/etc/not-executable": permission denied' in outcome.err


def test_a_missing_user_is_named_in_the_error(docker: Docker) -> None:
    outcome = docker("run", "--rm", "-u", "no-such-user", "busybox", "true")
    assert "unable to find user no-such-user: no matching entries in passwd file" in outcome.err


def test_a_missing_working_directory_parent_that_is_a_file_fails(docker: Docker) -> None:
    outcome = docker("run", "--rm", "-w", "/etc/passwd", "busybox", "true")
    assert outcome.status in (125, 126, 127) and outcome.err


def test_it_is_a_real_terminal_of_the_client_s_size(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", "sh", rows=33, columns=99) as terminal:
        terminal.expect("# ")
        terminal.type("tty; test -t 0 && test -t 1 && test -t 2 && echo all-$((1+1))\n")
        terminal.expect(r"/dev/(pts/0|console)\r\n")
        terminal.expect(r"all-2\r\n")
        eventually_size(terminal, "33 99")
        terminal.type("exit 7\n")
        assert terminal.end() == 7


def eventually_size(terminal: Terminal, size: str, within: float = 15) -> None:
    """The shell on the terminal sees `rows columns`, now or soon: docker sends the size after the start."""

    def look() -> bool:
        terminal.type("stty size\n")
        return terminal.expect(r"\n(\d+ \d+)\r\n").group(1) == size

    eventually(look, within=within, what=f"the terminal is {size}")


def test_a_resize_of_the_window_reaches_the_container(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        eventually_size(terminal, "24 80")
        columns = itertools.count(100)

        def resized() -> bool:
            # again each time: the client looks for the signal only a moment after the start
            wanted = next(columns)
            terminal.resize(50, wanted)
            eventually_size(terminal, f"50 {wanted}", within=2)
            return True

        eventually(resized)
        terminal.type("exit\n")
        assert terminal.end() == 0


def test_the_program_hears_of_a_resize_by_sigwinch(docker: Docker) -> None:
    script = "trap 'stty size' WINCH; echo re''ady; while :; do sleep 0.05; done"
    with docker.terminal("run", "--rm", "-it", "busybox", "sh", "-c", script) as terminal:
        terminal.expect("ready")
        columns = itertools.count(42)

        def heard() -> bool:
            wanted = next(columns)
            terminal.resize(41, wanted)
            return bool(terminal.expect(f"41 {wanted}", within=2))

        eventually(heard)


def test_ctrl_c_interrupts_the_foreground_program_not_the_container(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("sh -c 'echo fore''ground; exec sleep 1000'\n")
        terminal.expect("foreground")
        terminal.type("\x03")
        terminal.expect("# ")
        terminal.type("echo still-$((1+1))\n")
        terminal.expect(r"still-2\r\n")
        terminal.type("exit 5\n")
        assert terminal.end() == 5


def test_ctrl_d_ends_a_shell_on_a_terminal(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_ctrl_c_without_a_terminal_is_forwarded_as_a_signal(docker: Docker) -> None:
    script = "trap 'echo caught; exit 33' INT; echo ready; while :; do sleep 0.05; done"
    with docker.terminal("run", "--rm", "busybox", "sh", "-c", script) as terminal:
        terminal.expect("ready")
        terminal.type("\x03")
        terminal.expect("caught")
        assert terminal.end() == 33


def test_the_detach_keys_leave_the_container_running_and_attach_finds_it_again(docker: Docker) -> None:
    with docker.terminal("run", "--name", "kept", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("mark=before\n")
        terminal.expect("# ")
        terminal.type("\x10\x11")
        assert terminal.end() == 0
    assert docker.running("kept")
    with docker.terminal("attach", "kept") as terminal:
        terminal.type("echo $mark-again\n")
        terminal.expect(r"before-again\r\n")
        terminal.type("exit 4\n")
        assert terminal.end() == 4
    assert docker.state("kept")["ExitCode"] == 4


def test_detach_keys_of_the_user_replace_the_usual_ones(docker: Docker) -> None:
    with docker.terminal("run", "--name", "kept", "--detach-keys", "ctrl-a,d", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("\x01d")
        assert terminal.end() == 0
    assert docker.running("kept")


def test_attach_passes_stdin_and_the_exit_status(docker: Docker) -> None:
    docker.ok("run", "-di", "--name", "waiting", "busybox", "sh", "-c", "read line; echo got $line; read; exit 12")
    client = docker.start("attach", "waiting", stdin=subprocess.PIPE)
    client.write("word\n")
    assert client.line() == "got word"
    client.communicate(b"\n", timeout=20)
    assert client.returncode == 12


def test_attach_s_end_of_stdin_leaves_the_container_s_stdin_open(docker: Docker) -> None:
    script = "read a; echo got a; read b; echo $a $b; exit 12"
    docker.ok("run", "-di", "--name", "waiting", "busybox", "sh", "-c", script)
    for word, told in (("one", "got a"), ("two", "one two")):
        client = docker.start("attach", "waiting", stdin=subprocess.PIPE)
        client.write(f"{word}\n")
        assert client.stdin
        client.stdin.close()
        eventually(lambda told=told: told in docker.ok("logs", "waiting"))  # type: ignore[misc]
    assert docker.ok("wait", "waiting") == "12"


def test_two_clients_attached_see_the_same_output(docker: Docker) -> None:
    docker.ok("run", "-di", "--name", "shared", "busybox", "cat")
    readers = [docker.start("attach", "--no-stdin", "shared") for _ in range(2)]
    writer = docker.start("attach", "shared", stdin=subprocess.PIPE)

    def all_are_attached() -> bool:
        writer.write("probe\n")
        return all(reader.readable() for reader in readers)

    eventually(all_are_attached)
    writer.write("end\n")
    for reader in readers:
        while (line := reader.line()) != "end":
            assert line == "probe"
    docker.ok("kill", "shared")
    for process in (*readers, writer):
        process.communicate(timeout=10)
        assert process.returncode == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_client_is_forwarded(docker: Docker, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 21' {name}; echo ready; while :; do sleep 0.05; done"
    client = docker.start("run", "--rm", "busybox", "sh", "-c", script)
    assert client.line() == "ready"
    client.send_signal(number)
    out, _ = client.communicate(timeout=20)
    assert (client.returncode, out) == (21, f"got {name}\n".encode())


def test_a_signal_to_the_client_stays_there_with_sig_proxy_off(docker: Docker) -> None:
    client = docker.start("run", "--name", "deaf", "--sig-proxy=false", "busybox", "sh", "-c", "echo ready; sleep 100")
    assert client.line() == "ready"
    client.send_signal(signal.SIGTERM)
    assert docker.ok("exec", "deaf", "echo", "alive") == "alive"
    client.kill()
    client.communicate(timeout=20)
    assert docker.running("deaf")


def test_a_terminal_without_stdin_still_has_one_output(docker: Docker) -> None:
    outcome = docker("run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert outcome == (0, "out\r\nerr\r\n", "")


def test_it_without_a_terminal_at_the_client_is_refused(docker: Docker) -> None:
    outcome = docker("run", "--rm", "-it", "busybox", "true", stdin="")
    assert outcome.status == 1 and "not a TTY" in outcome.err
