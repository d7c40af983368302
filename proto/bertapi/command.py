"""`bertcall`: the client as a command. Reads texts, makes one call, prints a table or the response as proto JSON.

`--json` writes the names of proto JSON (lowerCamelCase, as grpcurl and `buf curl` do), zeros included; `stream` writes
a line of it for each text. Exit code: 0 done, 1 refused, unreachable, or a text of a stream at fault, with one line on
stderr that says why, 2 wrong usage, 141 if the reader of the output left before its end, as `head` does.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from bertapi import calls, results, streams, views
from bertapi.arguments import EXIT_USAGE, build_parser
from bertapi.bulk import Lines
from bertapi.calls import Call
from bertapi.client import DEFAULT_TIMEOUT_SECONDS, BertClient, tls_credentials
from bertapi.errors import BertError, UnavailableError
from bertapi.inputs import InputText, UsageError, as_text, expand_standard_input, name_of, open_lines, split_pair
from bertapi.outputs import analyze_options, choose_outputs, embed_options, named_outputs
from bertapi.printing import complain, discard_output, keep_descriptors, prepare_output

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as a shell says of a program that SIGPIPE ended

ResultT = TypeVar("ResultT")
ShownT = TypeVar(
    "ShownT",
    results.Embedding,
    results.FilledText,
    results.NextSentenceScore,
    results.Analysis,
    results.Classification,
    results.TaggedText,
    results.TokenizedText,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    keep_descriptors()
    try:
        arguments = build_parser().parse_args([as_text(word) for word in sys.argv[1:]] if argv is None else argv)
        prepare_output(as_json=arguments.json or arguments.command == "stream")
        with _connect(arguments) as client:
            if arguments.command == "stream":
                return _stream(client, arguments)
            print(COMMANDS[arguments.command](client, arguments), flush=True)
    except BertError as error:
        return _fail(describe_failure(error, arguments.target), EXIT_FAILED)
    except UsageError as error:
        return _fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        return _lose_output(error)
    return 0


def _lose_output(error: OSError) -> int:
    discard_output()
    if isinstance(error, BrokenPipeError):
        return EXIT_UNREAD  # the reader has seen enough, and knows
    return _fail(f"the output cannot be written: {error.strerror}", EXIT_FAILED)


def _connect(arguments: Namespace) -> BertClient:
    """Raises UsageError for files of credentials that cannot be read."""
    if bool(arguments.certificate) != bool(arguments.key):
        raise UsageError("--certificate and --key go together")
    try:
        credentials = (
            tls_credentials(ca=arguments.ca, certificate=arguments.certificate, key=arguments.key)
            if arguments.tls or arguments.ca or arguments.certificate
            else None
        )
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    return BertClient(
        arguments.target,
        model=arguments.model,
        timeout_seconds=DEFAULT_TIMEOUT_SECONDS if arguments.timeout is None else arguments.timeout,
        credentials=credentials,
        token=arguments.token_file,
    )


def describe_failure(error: BertError, target: str) -> str:
    """A failure in one line: the fields at fault, or the message, and what to do about it."""
    if isinstance(error, UnavailableError):
        reason = error.message.rpartition("last error: ")[2]
        return (
            f"no ready server at {target} ({_one_line(reason)}); "
            "start one with 'bertserve BUNDLE', or name another with --target HOST:PORT"
        )
    faults = "; ".join(f"{violation.field}: {violation.description}" for violation in error.violations)
    again = "" if error.retry_after_seconds is None else f"; try again in {error.retry_after_seconds:.2g} s"
    return f"{error.code.name}: {_one_line(faults or error.message)}{again}"


def _embed(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    options = embed_options(arguments)
    call = calls.embed(
        texts,
        pooling=options.pooling,
        layers=options.layers,
        layer_merge=options.layer_merge,
        normalize=options.normalize,
        vector_type=options.vector_type,
        include_tokens=options.include_tokens,
        truncation=arguments.truncation,
    )
    return _present(
        client, arguments, call, lambda found: _with_footer(views.show_embeddings(_headings(texts), found), found)
    )


def _fill(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    call = calls.fill_mask(texts, top_k=arguments.top_k, targets=arguments.targets, truncation=arguments.truncation)
    return _present(client, arguments, call, lambda found: _show_each(texts, found, views.show_filled_text))


def _next_sentence(client: BertClient, arguments: Namespace) -> str:
    candidates = expand_standard_input(arguments.candidates)
    call = calls.score_next_sentence(arguments.first, candidates, truncation=arguments.truncation)
    return _present(
        client,
        arguments,
        call,
        lambda found: _with_footer(views.show_next_sentence_scores(candidates, found), found),
    )


def _analyze(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    outputs = named_outputs(arguments) or choose_outputs(client.get_model(), texts)
    call = calls.analyze(texts, **analyze_options(arguments, outputs))
    note = f"\nleft out: {', '.join(outputs.left_out)}" if outputs.left_out else ""
    return _present(client, arguments, call, lambda found: _show_each(texts, found, views.show_analysis) + note)


def _classify(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    call = calls.classify(texts, truncation=arguments.truncation)
    return _present(client, arguments, call, lambda found: _show_each(texts, found, views.show_classification))


def _tag(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    call = calls.tag_tokens(texts, aggregation=arguments.aggregation, truncation=arguments.truncation)
    return _present(client, arguments, call, lambda found: _show_each(texts, found, views.show_tagged_text))


def _tokenize(client: BertClient, arguments: Namespace) -> str:
    texts = _texts(arguments)
    call = calls.tokenize(texts, truncation=arguments.truncation)
    return _present(client, arguments, call, lambda found: _show_each(texts, found, views.show_tokenized_text))


def _info(client: BertClient, arguments: Namespace) -> str:
    return _present(client, arguments, calls.get_model(), views.show_model)


def _models(client: BertClient, arguments: Namespace) -> str:
    return _present(client, arguments, calls.list_models(), views.show_models)


COMMANDS: dict[str, Callable[[BertClient, Namespace], str]] = {
    "embed": _embed,
    "fill": _fill,
    "nsp": _next_sentence,
    "analyze": _analyze,
    "classify": _classify,
    "tag": _tag,
    "tokenize": _tokenize,
    "info": _info,
    "models": _models,
}


def _stream(client: BertClient, arguments: Namespace) -> int:
    """Prints each answer once those of earlier lines are printed; returns the exit code."""
    outputs = named_outputs(arguments)
    if outputs is None:
        raise UsageError("say what to compute: --embed, --fill, --nsp, --classify, --tag, or several of them")
    timeout_seconds = math.inf if arguments.timeout is None else arguments.timeout
    with open_lines(arguments.file) as file:
        lines = Lines(file, arguments.separator, client.get_model().max_characters)
        call = streams.stream_analyze(lines, **analyze_options(arguments, outputs), timeout_seconds=timeout_seconds)
        try:
            for response in client.fetch_stream(call):
                lines.settle(response)
                _print_settled(lines)
        except BertError as error:
            failure = describe_failure(error, arguments.target)
            return _fail(f"{failure}; from line {lines.shown + 1} on there are no answers", EXIT_FAILED)
    _print_settled(lines)
    if lines.unread is not None:
        reason = f"{name_of(arguments.file)}: {lines.unread.strerror}"
        return _fail(f"{reason}; from line {lines.shown + 1} on it was not read", EXIT_FAILED)
    if lines.first_failure is None:
        return 0
    reason = _one_line(lines.first_failure.error.message)
    found = f"{lines.failed} of {lines.shown} lines failed, line {lines.first_failure.id} first: {reason}"
    return _fail(found, EXIT_FAILED)


def _print_settled(lines: Lines) -> None:
    for response in lines.settled():
        print(_as_json(response, indent=None), flush=True)


def _present(client: BertClient, arguments: Namespace, call: Call[ResultT], show: Callable[[ResultT], str]) -> str:
    response = client.fetch(call)
    if arguments.json:
        return _as_json(response)
    return show(call.read(response))


def _show_each(texts: Sequence[InputText], found: results.Results[ShownT], show: Callable[[ShownT], str]) -> str:
    return _with_footer(views.show_texts(_headings(texts), [show(result) for result in found]), found)


def _with_footer(body: str, found: results.Results[ShownT]) -> str:
    return f"{body}\n\n{views.show_footer([result.truncated for result in found], found.info)}"


def _texts(arguments: Namespace) -> list[InputText]:
    return [split_pair(text, arguments.separator) for text in expand_standard_input(arguments.texts)]


def _headings(texts: Sequence[InputText]) -> list[str]:
    return [text if isinstance(text, str) else " ||| ".join(text) for text in texts]


def _as_json(response: Message, indent: int | None = 2) -> str:
    return json_format.MessageToJson(
        response, indent=indent, always_print_fields_with_no_presence=True, ensure_ascii=False
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fail(message: str, exit_code: int) -> int:
    complain(message)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
