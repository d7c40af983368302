"""The arguments of `bertcall`: what may be written on its command line. Connects to nothing."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, NoReturn, TypeAlias, get_args

from bertapi.calls import Aggregation, LayerMerge, Pooling
from bertapi.client import DEFAULT_TIMEOUT_SECONDS
from bertapi.inputs import as_path

DEFAULT_TARGET = "127.0.0.1:50051"
PAIR_SEPARATOR = "|||"
EXIT_USAGE = 2
# A layer's number is an int32 of the API.
LAYERS = range(-(2**31), 2**31)
CONNECTION_DEFAULTS = {
    "target": DEFAULT_TARGET,
    "model": "",
    "json": False,
    "timeout": None,
    "tls": False,
    "ca": None,
    "certificate": None,
    "key": None,
    "token_file": None,
}


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong; argparse itself would print all options above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Raises OSError for help that cannot be written; argparse itself would leave with 0."""
        if file is None or file is not sys.stdout:
            super()._print_message(message, file)
        else:
            print(message, end="", file=file, flush=True)


Group: TypeAlias = "argparse._ArgumentGroup"  # noqa: SLF001 — argparse names it nowhere else
Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"  # noqa: SLF001 — argparse names it nowhere else


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="bertcall",
        description="Call a bertserve server.",
        epilog="Exit code: 0 done, 1 refused or unreachable, 2 wrong usage, 141 if the output's reader left. "
        "'bertcall COMMAND --help' says more.",
        parents=[_connection_parser()],
        allow_abbrev=False,
    )
    parser.set_defaults(**CONNECTION_DEFAULTS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_embed_options(_add_text_command(commands, "embed", "vectors, their norms and cosines"))
    _add_fill_options(_add_text_command(commands, "fill", "the likeliest words at every [MASK]"))
    _add_next_sentence_command(commands)
    _add_analyze_command(commands)
    _add_stream_command(commands)
    _add_text_command(commands, "classify", "labels of whole texts")
    _add_tag_options(_add_text_command(commands, "tag", "labels of tokens, and the entities that they make"))
    _add_text_command(commands, "tokenize", "tokens as the model sees them")
    _add_command(commands, "info", "what is served under a name, and how accurate it is")
    _add_command(commands, "models", "all that is served")
    return parser


def _connection_parser() -> OneLineParser:
    """Options that may stand before the command as well as after: neither place may reset what the other said."""
    parser = OneLineParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("server and output")
    group.add_argument("--target", type=_server, metavar="HOST:PORT", help=f"the server; {DEFAULT_TARGET} by default")
    group.add_argument("--model", type=_sendable, metavar="NAME", help="a served model; by default the server's first")
    group.add_argument("--json", action="store_true", help="print the response as proto JSON, as grpcurl names fields")
    group.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help=f"for an answer, {DEFAULT_TIMEOUT_SECONDS:g} by default; for a whole stream, no limit by default",
    )
    _add_security_options(parser.add_argument_group("security"))
    return parser


def _add_security_options(group: Group) -> None:
    group.add_argument("--tls", action="store_true", help="encrypt; by the public authorities, unless --ca names one")
    group.add_argument("--ca", type=as_path, metavar="FILE", help="PEM: who signs server certificates; implies --tls")
    group.add_argument(
        "--certificate", type=as_path, metavar="FILE", help="PEM: the client's own certificate, with --key"
    )
    group.add_argument("--key", type=as_path, metavar="FILE", help="PEM: the private key of --certificate")
    group.add_argument("--token-file", type=as_path, metavar="FILE", help="a bearer token, in a file")


def _add_command(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=purpose, description=purpose, parents=[_connection_parser()], allow_abbrev=False
    )


def _add_text_command(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    parser = _add_command(commands, name, purpose)
    parser.add_argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help=f"a text, or a pair written 'FIRST {PAIR_SEPARATOR} SECOND'; - reads one a line from standard input",
    )
    _add_reading_options(parser)
    return parser


def _add_reading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--separator",
        default=PAIR_SEPARATOR,
        metavar="MARK",
        help=f"what parts the texts of a pair; {PAIR_SEPARATOR} by default, '' for none",
    )
    _add_truncation(parser)


def _add_truncation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--truncation",
        choices=("error", "end", "start"),
        default="error",
        help="of a text longer than the model takes: refuse it (the default), or drop its end or start",
    )


def _add_next_sentence_command(commands: Commands) -> None:
    parser = _add_command(commands, "nsp", "how likely each candidate is to follow the first sentence")
    parser.add_argument("first", type=_sendable, metavar="FIRST")
    parser.add_argument("candidates", nargs="+", metavar="CANDIDATE", help="- reads one a line from standard input")
    _add_truncation(parser)


def _add_analyze_command(commands: Commands) -> None:
    parser = _add_text_command(
        commands, "analyze", "several outputs from one pass; all that the model has and every text admits, unless named"
    )
    _add_outputs(parser)


def _add_stream_command(commands: Commands) -> None:
    parser = _add_command(
        commands,
        "stream",
        "analyze for bulk work: a file of texts, one a line; a line of JSON for each, in their order",
    )
    parser.add_argument("file", type=as_path, metavar="FILE", help="- for standard input")
    _add_reading_options(parser)
    _add_outputs(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--embed", action="store_true", help="vectors")
    parser.add_argument("--fill", action="store_true", help="masked words")
    parser.add_argument("--nsp", action="store_true", help="next-sentence score; every text a pair")
    parser.add_argument("--classify", action="store_true", help="labels")
    parser.add_argument("--tag", action="store_true", help="labels of tokens")
    _add_embed_options(parser)
    _add_fill_options(parser)
    _add_tag_options(parser)


def _add_embed_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("vectors")
    group.add_argument("--pooling", choices=get_args(Pooling), help="the model's own by default; none: one per token")
    group.add_argument(
        "--layers",
        type=_integers,
        action="extend",
        default=[],
        metavar="N,N",
        help="written --layers=-1,-2; the last by default",
    )
    group.add_argument("--merge", choices=get_args(LayerMerge), default="concat", help="how several layers become one")
    group.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="unit length; the model's own by default"
    )
    group.add_argument("--float16", action="store_true", help="half the bytes")
    group.add_argument("--tokens", action="store_true", help="the tokens too")


def _add_fill_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("masked words")
    group.add_argument("--top-k", type=_count, metavar="K", help="words per mask; the server's default is 5")
    group.add_argument(
        "--targets",
        type=_words,
        action="extend",
        default=[],
        metavar="WORD,WORD",
        help="words to score, likely or not; may be given several times",
    )


def _add_tag_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("labels of tokens")
    group.add_argument(
        "--aggregation",
        choices=get_args(Aggregation),
        default="simple",
        help="simple: entities too, joined by B- and I- (the default); none: tokens alone",
    )


def _sendable(value: str) -> str:
    """Bytes that are not UTF-8 come as lone surrogates, which no message can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{value!r} is not UTF-8") from None
    return value


def _server(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError(f"{value!r} names no server")
    return _sendable(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{value!r} is no positive number of seconds")
    return seconds


def _count(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise argparse.ArgumentTypeError(f"{value!r} is no count")
    return min(int(value), 2**32 - 1)


def _integers(value: str) -> list[int]:
    try:
        layers = [int(part) for part in value.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no list of layers such as -1,-2") from None
    if any(layer not in LAYERS for layer in layers):
        raise argparse.ArgumentTypeError(f"{value!r} names a layer that no model has")
    return layers


def _words(value: str) -> list[str]:
    """A lone comma is a word too."""
    return [value] if value == "," else [word.strip() for word in _sendable(value).split(",")]
