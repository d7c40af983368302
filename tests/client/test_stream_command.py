"""`bertcall stream`: a line of JSON for each line of a file, in order, however they come."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bertapi.bulk import Lines
from bertapi.command import main
from bertapi.v1 import bert_service_pb2 as pb
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer
from servers import RunningServer

LONG, SHORT = b"the king went to war in the north " * 3, b"a cat"
# Whose answers no buffer on the way can hold.
ENOUGH_LINES = 200_000
BAD = {
    "not UTF-8": (b"\xff", "not UTF-8"),
    "two separators": (b"a ||| b ||| c", "a pair has two texts"),
    "no token": (b"", "yields no token"),
    "too long": (b"a" * 70_000, "70000 characters, the server takes 65536"),
    "larger than a message": (b"a ||| " + b"a" * 17_000_000, "17000000 characters, the server takes 65536"),
}

Stream = Callable[..., tuple[int, list[pb.StreamAnalyzeResponse], str]]


@pytest.fixture
def stream(server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Stream:
    """Runs `bertcall stream` on a file of these bytes: exit code, answers, stderr."""

    def run(content: bytes, *arguments: str) -> tuple[int, list[pb.StreamAnalyzeResponse], str]:
        file = tmp_path / "texts"
        file.write_bytes(content)
        exit_code = main(["stream", str(file), *arguments, "--target", server.target])
        output, complaint = capsys.readouterr()
        lines = output.splitlines()
        return exit_code, [json_format.Parse(line, pb.StreamAnalyzeResponse()) for line in lines], complaint

    return run


def test_each_line_is_answered_in_order(stream: Stream) -> None:
    """Long texts, which come late, hold back the short ones after them; ids are line numbers."""
    lines = [LONG if number % 3 == 0 else SHORT for number in range(300)]
    exit_code, answers, complaint = stream(b"\n".join(lines), "--embed")
    assert (exit_code, complaint) == (0, "")
    assert [int(answer.id) for answer in answers] == list(range(1, 301))
    counts = [answer.analysis.embedding.token_count for answer in answers]
    assert counts == [counts[0] if line is LONG else counts[1] for line in lines]
    assert counts[0] > counts[1]


def test_pairs_and_options_are_those_of_analyze(stream: Stream) -> None:
    """A masked pair, several outputs of one pass; Windows' line ends are none of the text."""
    _, (answer,), _ = stream(b"a [MASK] ||| it sat\r\n", "--fill", "--top-k", "2", "--nsp")
    assert len(answer.analysis.fill_mask.masks[0].predictions) == 2
    assert answer.analysis.HasField("next_sentence")
    assert not answer.analysis.HasField("embedding")


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_a_line_at_fault_fails_alone(stream: Stream, line: bytes, message: str) -> None:
    """Its error stands in its place; the end says how many there were and where the first is."""
    exit_code, answers, complaint = stream(b"\n".join([SHORT, line, SHORT, line]) + b"\n", "--embed")
    assert exit_code == 1
    assert [answer.WhichOneof("outcome") for answer in answers] == ["analysis", "error", "analysis", "error"]
    assert [answer.id for answer in answers] == ["1", "2", "3", "4"]
    assert message in answers[1].error.message
    assert answers[1].error.code == 3
    assert complaint.startswith("bertcall: 2 of 4 lines failed, line 2 first: ")
    assert message in complaint
    assert complaint.count("\n") == 1


def test_a_mark_of_the_encoding_is_no_text(stream: Stream) -> None:
    """The byte order mark that editors put before a file's first line."""
    _, (marked, second), _ = stream(b"\xef\xbb\xbf[MASK] sat\n[MASK] sat", "--fill")
    assert marked.analysis == second.analysis


def test_an_empty_file_has_no_answers(stream: Stream) -> None:
    """And no fault."""
    assert stream(b"", "--embed") == (0, [], "")


def test_standard_input_is_read_as_it_comes(server: RunningServer) -> None:
    """A line is answered before the next one is written."""
    command = [sys.executable, "-m", "bertapi.command", "stream", "-", "--embed", "--target", server.target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for number in (1, 2):
            process.stdin.write("a cat\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == str(number)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.mark.slow
def test_a_file_is_read_no_faster_than_its_answers_are_taken(server: RunningServer) -> None:
    """Nobody takes more than three: reading stops far from the end, and `bertcall … | head -3` ends quietly."""
    options = ["--embed", "--pooling", "none", "--layers=0,1,-1", "--target", server.target]
    command = [sys.executable, "-m", "bertapi.command", "stream", "-", *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        written: list[None] = []

        def write() -> None:
            with contextlib.suppress(BrokenPipeError):
                for _ in range(ENOUGH_LINES):
                    process.stdin.write(LONG * 2 + b"\n")
                    written.append(None)

        writer = threading.Thread(target=write)
        writer.start()
        assert [json.loads(process.stdout.readline())["id"] for _ in range(3)] == ["1", "2", "3"]
        before = -1
        while before != len(written):
            before = len(written)
            time.sleep(0.5)
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")
        writer.join(timeout=30)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    assert before < ENOUGH_LINES


class Failing(io.RawIOBase):
    """A file whose medium fails after its first bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._content:
            raise OSError(errno.EIO, "Input/output error")
        count = len(self._content)
        buffer[:count], self._content = self._content, b""
        return count


def test_a_file_that_fails_on_the_way_is_answered_so_far(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line that was read has its answer; the end says why there are no more, and from where."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Failing(b"a cat\n" * 2))))
    assert main(["stream", "-", "--embed", "--target", server.target]) == 1
    output, complaint = capsys.readouterr()
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["1", "2"]
    assert complaint == "bertcall: standard input: Input/output error; from line 3 on it was not read\n"


def test_a_stream_that_breaks_says_where(
    scripted_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From which line on answers are missing, so that the rest can be sent again."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    assert main(["stream", "-", "--embed", "--target", scripted_server.target]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("bertcall: UNIMPLEMENTED: ")
    assert complaint.endswith("; from line 1 on there are no answers\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["-"], "say what to compute: --embed"), (["/no/such/file", "--embed"], "/no/such/file: No such file")],
    ids=["no output", "no file"],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a line that says what is wrong, without any server."""
    assert main(["stream", *arguments]) == 2
    assert message in capsys.readouterr().err


@given(st.lists(st.booleans()).flatmap(lambda good: st.tuples(st.just(good), st.permutations(range(sum(good))))))
def test_answers_leave_in_the_order_of_the_lines(given_lines: tuple[list[bool], list[int]]) -> None:
    """Whatever order they come in, and wherever lines are no texts: each once, under its line's number."""
    good, order = given_lines
    lines = Lines([b"a" if line else b"\xff" for line in good], "|||", 100)
    assert len(list(lines)) == sum(good)
    shown = list(lines.settled())
    for sent in order:
        lines.settle(pb.StreamAnalyzeResponse(id=str(sent), analysis=pb.Analysis()))
        shown += lines.settled()
    assert [int(answer.id) for answer in shown] == list(range(1, len(good) + 1))
    assert [answer.HasField("analysis") for answer in shown] == good
    assert (lines.shown, lines.failed) == (len(good), good.count(False))
