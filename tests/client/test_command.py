"""`bertcall` against a real server: what it prints, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from bertapi.client import BertClient
from bertapi.command import main
from bertapi.outputs import choose_outputs
from bertapi.responses import read_model
from bertapi.v1 import bert_service_pb2 as pb
from closed_streams import without_streams
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

MASKED, PLAIN = "the [MASK] sat on the mat", "it was a good day"
PAIR = f"{MASKED} ||| {PLAIN}"

JSON_CALLS = {
    "embed": (["embed", PLAIN], pb.EmbedResponse),
    "fill": (["fill", MASKED], pb.FillMaskResponse),
    "nsp": (["nsp", PLAIN, PLAIN], pb.ScoreNextSentenceResponse),
    "analyze": (["analyze", PAIR], pb.AnalyzeResponse),
    "classify": (["classify", PLAIN, "--model", "classifier"], pb.ClassifyResponse),
    "tag": (["tag", PLAIN, "--model", "tagger"], pb.TagTokensResponse),
    "tokenize": (["tokenize", PLAIN], pb.TokenizeResponse),
    "info": (["info"], pb.GetModelResponse),
    "models": (["models"], pb.ListModelsResponse),
}

WRONG_USAGE = {
    "no command": [],
    "unknown command": ["guess", "a"],
    "no text": ["embed"],
    "layers that are no numbers": ["embed", "a", "--layers=last"],
    "negative top-k": ["fill", "a", "--top-k", "-1"],
    "no time": ["embed", "a", "--timeout", "0"],
    "unknown aggregation": ["tag", "a", "--aggregation", "max"],
    "unknown pooling": ["embed", "a", "--pooling", "avg"],
    "three texts in a pair": ["embed", "a ||| b ||| c"],
    "bytes that are not UTF-8": ["embed", "\udcff"],
    "a first sentence that is not UTF-8": ["nsp", "\udcff", "a"],
    "a candidate that is not UTF-8": ["nsp", "a", "\udcff"],
    "a target that is not UTF-8": ["fill", "a [MASK]", "--targets", "\udcff"],
    "a model that is not UTF-8": ["info", "--model", "\udcff"],
    "a server that is not UTF-8": ["info", "--target", "\udcff:1"],
    "no server": ["info", "--target", ""],
    "a layer beyond int32": ["embed", "a", "--layers=99999999999"],
    "a time that is no number": ["info", "--timeout", "soon"],
}


@pytest.fixture
def call(server, capsys):
    """Runs bertcall; returns its exit code, stdout and stderr."""

    def run(*arguments):
        exit_code = main([*arguments, "--target", server.target])
        return exit_code, *capsys.readouterr()

    with BertClient(server.target) as client:
        client.wait_ready()
    return run


def test_fill(call):
    """Masked words come as a table of rank, word, probability and bar, as many as asked."""
    exit_code, output, _ = call("fill", MASKED, "--top-k", "3")
    mask, titles, *rows = output.split("\n\n")[0].split("\n")
    assert (exit_code, mask, titles.split()) == (0, "mask 1, text 4–10", ["rank", "word", "probability"])
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert all(row.split()[2].endswith("%") for row in rows)


def test_fill_scores_the_asked_words(call):
    """Targets stand below the predictions, in the order asked."""
    _, output, _ = call("fill", MASKED, "--top-k", "0", "--targets", "dog,cat")
    assert [line.split()[:2] for line in output.split("\n") if line.startswith("asked")] == [
        ["asked", "dog"],
        ["asked", "cat"],
    ]


def test_targets_may_be_given_several_times(call):
    """Every `--targets` adds its words to those before."""
    _, output, _ = call("fill", MASKED, "--top-k", "0", "--targets", "dog", "--targets", "cat,mat")
    assert [line.split()[1] for line in output.split("\n") if line.startswith("asked")] == ["dog", "cat", "mat"]


def test_layers_may_be_given_several_times(call):
    """Every `--layers` adds its layers: concatenated, two are twice as long as one."""
    outputs = (call("embed", PLAIN, *layers)[1] for layers in (["--layers=-1"], ["--layers=-1", "--layers=-2"]))
    one, two = (int(output.partition("[")[2].partition("]")[0]) for output in outputs)
    assert two == 2 * one


def test_a_timeout_beyond_all_clocks_is_none(call):
    """A time too long for gRPC is waited for like any other."""
    assert call("info", "--timeout", "1e300")[0] == 0


def test_several_texts_are_numbered(call):
    """Every text has its own block, under its number."""
    _, output, _ = call("fill", MASKED, f"{PLAIN} ||| so {MASKED}", "--top-k", "1")
    assert f"1. {MASKED}\nmask 1, text" in output
    assert f"2. {PLAIN} ||| so {MASKED}\nmask 1, pair" in output


def test_embed(call):
    """Texts come with shape, norm and first values, and several of them with their cosines."""
    _, output, _ = call("embed", PLAIN, PLAIN, "--normalize")
    vectors, cosines, _ = output.split("\n\n")
    assert all("1.0000" in row for row in vectors.split("\n")[1:])
    assert [row.split() for row in cosines.split("\n")] == [
        ["cosine", "1", "2"],
        ["1", "1.0000", "1.0000"],
        ["2", "1.0000", "1.0000"],
    ]


def test_embed_tokens(call):
    """Without pooling there is a row for every token."""
    _, output, _ = call("embed", PLAIN, "--pooling", "none", "--tokens", "--layers=0,-1", "--merge", "sum", "--float16")
    assert output.startswith("shape [")
    assert all(f" {word} " in output for word in PLAIN.split())


def test_next_sentence(call):
    """Every candidate has its probability and a verdict."""
    _, output, _ = call("nsp", PLAIN, "the cat", "a dog")
    rows = output.split("\n\n")[0].split("\n")[1:]
    assert [row[:7] for row in rows] == ["the cat", "a dog  "]
    assert all("%" in row and row.endswith("next") for row in rows)


def test_analyze_asks_for_all_that_fits(call):
    """A masked pair gets vector, words and next-sentence score unasked."""
    _, output, _ = call("analyze", PAIR)
    assert all(part in output for part in ("vector [", "mask 1, text", "next sentence: "))


def test_analyze_says_what_it_left_out(call):
    """What the texts do not admit is named, not silently missing."""
    _, output, _ = call("analyze", PLAIN)
    assert (
        "left out: masked words (not every text has a mask), next-sentence scores (not every text is a pair)" in output
    )


def test_analyze_asks_only_for_what_is_named(call):
    """A named output is the only one."""
    _, output, _ = call("analyze", PAIR, "--nsp")
    assert "next sentence: " in output
    assert "vector [" not in output
    assert "left out" not in output


def test_classify(call):
    """Labels come as a table of rank, label, probability, score, logit and bar."""
    _, output, _ = call("classify", PLAIN, "--model", "classifier")
    titles, *rows = output.split("\n\n")[0].split("\n")
    assert titles.split() == ["rank", "label", "probability", "score", "logit"]
    assert [row.split()[0] for row in rows] == [str(rank) for rank in range(1, len(rows) + 1)]


def test_tag(call):
    """Entities with their words stand above the tokens with their labels."""
    _, output, _ = call("tag", PLAIN, "--model", "tagger")
    entities, tokens, _ = output.split("\n\n")
    assert entities.split("\n")[0].split() == ["entity", "text", "place", "label", "probability"]
    assert tokens.split("\n")[0].split() == ["token", "text", "place", "label", "probability"]
    assert [row.split()[0] for row in tokens.split("\n")[1:]] == PLAIN.split()


def test_tag_without_entities(call):
    """Only the tokens, where nothing else is asked."""
    _, output, _ = call("tag", PLAIN, "--model", "tagger", "--aggregation", "none")
    assert output.startswith("token")


def test_analyze_tags(call):
    """A model that labels tokens is asked for that too, by name or by default."""
    for arguments in ((), ("--tag",)):
        _, output, _ = call("analyze", PLAIN, "--model", "tagger", *arguments)
        assert "entity" in output
        assert ("vector [" in output) == (not arguments)


def test_tokenize(call):
    """Tokens come with id, text and place; special ones have no place."""
    _, output, _ = call("tokenize", f"{PLAIN} ||| a dog")
    rows = [line.split() for line in output.split("\n\n")[0].split("\n")]
    assert rows[0] == ["index", "token", "id", "text", "place"]
    assert [rows[1][1], *rows[2][-2:]] == ["[CLS]", "text", "0–2"]
    assert [rows[-2][1], *rows[-2][3:]] == ["dog", "pair", "2–5"]


def test_info_and_models(call):
    """A model's facts are shown by name, and models one a line."""
    _, info, _ = call("info")
    facts = dict(line.split(None, 1) for line in info.split("\n\n")[0].split("\n"))
    _, models, _ = call("models")
    assert "masked_lm" in facts["heads"]
    assert models.split("\n")[1].startswith(facts["name"])


@pytest.mark.parametrize(("arguments", "message"), JSON_CALLS.values(), ids=JSON_CALLS)
def test_json(call, arguments, message):
    """`--json` prints the response as proto JSON: it parses back into the response's message, and is not empty."""
    exit_code, output, _ = call(*arguments, "--json")
    assert exit_code == 0
    assert json_format.Parse(output, message()).ByteSize() > 0


def test_json_names(call):
    """Fields are named in lowerCamelCase, and zeros are printed."""
    _, output, _ = call("tokenize", PLAIN, "--json")
    first = json.loads(output)["results"][0]
    assert (first["truncated"], first["tokens"][0]["start"]) == (False, 0)
    assert "bundleId" in json.loads(output)["info"]


def test_standard_input(call, monkeypatch):
    """`-` stands for the lines of standard input, without the byte order mark that may stand before them."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffeins\r\nzwei\u2028drei\n".encode())))
    _, output, _ = call("tokenize", "null", "-", "--json")
    results = json.loads(output)["results"]
    assert [result["tokens"][1]["start"] for result in results] == [0, 0, 0]


def test_separator(call):
    """A text may hold the separator once another is chosen, or none."""
    _, output, _ = call("tokenize", PAIR, "--separator", "", "--json")
    assert not [token for token in json.loads(output)["results"][0]["tokens"] if token["segment"]]


def test_options_may_stand_before_the_command(server, capsys):
    """The server may be named before the command or after it."""
    assert main(["--target", server.target, "--json", "models"]) == 0
    assert json.loads(capsys.readouterr().out)["models"]


def test_refusal(call):
    """A refused request is one line on stderr that names the field, and exit code 1."""
    exit_code, output, complaint = call("fill", PLAIN)
    assert (exit_code, output, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("bertcall: INVALID_ARGUMENT: inputs[0].text: ")


def test_missing_head(call):
    """A head that the model lacks is refused by its status, with the heads that there are."""
    exit_code, _, complaint = call("classify", PLAIN)
    assert exit_code == 1
    assert complaint.startswith("bertcall: FAILED_PRECONDITION: ")
    assert "masked_lm" in complaint


def test_unknown_model(call):
    """An unknown model is refused by its status."""
    exit_code, _, complaint = call("embed", PLAIN, "--model", "nobody")
    assert exit_code == 1
    assert complaint.startswith("bertcall: NOT_FOUND: ")


def test_no_server(capsys):
    """Where nothing listens, the line says what to do."""
    assert main(["embed", PLAIN, "--target", "127.0.0.1:1"]) == 1
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "no ready server at 127.0.0.1:1 (" in complaint
    assert "Connection refused" in complaint
    assert "bertserve" in complaint


def test_overload(scripted_server, capsys):
    """A refusal for overload says when to try again."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2))
    scripted_server.answers.append(scripted_server.failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry))
    assert main(["embed", PLAIN, "--target", scripted_server.target]) == 1
    assert capsys.readouterr().err == "bertcall: RESOURCE_EXHAUSTED: full; try again in 2 s\n"


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage(arguments, capsys):
    """Wrong usage is exit code 2 and a line that says what is wrong, without any server."""
    try:
        exit_code = main(arguments)
    except SystemExit as stop:
        exit_code = stop.code
    assert exit_code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("bertcall")
    assert complaint.count("\n") == 1


PRINTING = [["models"], ["stream", __file__, "--embed"], ["--help"]]


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda words: words[0])
def test_a_reader_who_leaves_early_is_told_by_the_exit_code(server, arguments):
    """`bertcall … | head -1` ends quietly, as a program that SIGPIPE ends does."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "bertapi.command", "--target", server.target, *arguments]
    with os.fdopen(writing, "wb") as broken:
        finished = subprocess.run(command, check=False, stdout=broken, stderr=subprocess.PIPE, text=True)
    assert (finished.returncode, finished.stderr) == (141, "")


@pytest.mark.parametrize("arguments", PRINTING, ids=lambda words: words[0])
def test_output_that_cannot_be_written_is_one_line(server, arguments):
    """As on a full disk."""
    command = [sys.executable, "-m", "bertapi.command", "--target", server.target, *arguments]
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    complaint = "bertcall: the output cannot be written: No space left on device\n"
    assert (finished.returncode, finished.stderr) == (1, complaint)


@pytest.mark.parametrize("kind", ["closed", "full"])
def test_a_failure_keeps_its_exit_code_if_standard_error_takes_no_line(kind):
    """And the line does not stray into the output."""
    words = [sys.executable, "-m", "bertapi.command", "embed", "-"]
    words = without_streams((2,) if kind == "closed" else (), words)
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (finished.returncode, finished.stdout) == (2, b"")


def test_a_connection_takes_no_closed_streams_place(server):
    """What a library prints to descriptor 2 must not reach the server."""
    program = (
        "import os, sys; [os.close(fd) for fd in (0, 2)]\n"
        "from bertapi.command import main\n"
        f"assert main(['models', '--target', {server.target!r}]) == 0\n"
        "assert all(os.path.samestat(os.fstat(fd), os.stat(os.devnull)) for fd in (0, 2))\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert (finished.returncode, b"pretraining" in finished.stdout) == (0, True)


def test_words_are_read_as_utf_8_in_an_ascii_locale(server, tmp_path):
    """Texts, and names of files."""
    ascii_locale = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "été").write_text("the cat\n", encoding="utf-8")
    for arguments in ["embed", "été", "--json"], ["stream", str(tmp_path / "été"), "--embed"]:
        command = [sys.executable, "-m", "bertapi.command", *arguments, "--target", server.target]
        finished = subprocess.run(command, check=False, capture_output=True, env=ascii_locale)
        assert (finished.returncode, finished.stderr) == (0, b"")
        assert b'"embeddings"' in finished.stdout or b'"embedding"' in finished.stdout


def test_closed_standard_output_is_wrong_usage(monkeypatch, capsys):
    """As the shell's `>&-` leaves it: what is printed then would be lost without a word."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "bertcall: standard output is closed\n"


@pytest.mark.parametrize("command", ["embed", "stream"])
def test_closed_standard_input_is_wrong_usage(monkeypatch, capsys, command):
    """As the shell's `<&-` leaves it."""
    monkeypatch.setattr(sys, "stdin", None)
    arguments = ["-", "--embed"] if command == "stream" else ["-"]
    assert main([command, *arguments]) == 2
    assert capsys.readouterr().err == "bertcall: standard input is closed\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [MASK]", (True, False)),
        ("a <mask>", (True, False)),
        (("a", "b [MASK]"), (True, True)),
        ("a", (False, False)),
    ],
    ids=["mask", "the model's own mask", "mask in the pair", "none"],
)
def test_choice_of_outputs(text, expected):
    """Masked words are asked where every text has a mask, next-sentence scores where every text is a pair."""
    model = _model(pb.HEAD_MASKED_LM, pb.HEAD_NEXT_SENTENCE)
    chosen = choose_outputs(model, [text])
    assert (chosen.fill_mask, chosen.next_sentence, chosen.classify) == (*expected, False)


def test_choice_of_outputs_follows_the_heads():
    """A head that the model lacks is not asked."""
    chosen = choose_outputs(_model(pb.HEAD_SEQUENCE_CLASSIFICATION), [("a [MASK]", "b")])
    assert (chosen.embed, chosen.fill_mask, chosen.next_sentence, chosen.classify) == (True, False, False, True)
    assert not chosen.tag_tokens
    assert choose_outputs(_model(pb.HEAD_TOKEN_CLASSIFICATION), ["a"]).tag_tokens


def _model(*heads):
    return read_model(pb.GetModelResponse(model=pb.Model(heads=heads, mask_token="<mask>")))
