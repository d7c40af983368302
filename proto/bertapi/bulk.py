"""`bertcall stream`: texts from the lines of a file, answers in the order of these lines. Sends nothing itself."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator

import grpc

from bertapi.inputs import InputText, UsageError, split_pair
from bertapi.v1 import bert_service_pb2 as pb

INVALID_ARGUMENT: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]


class Lines:
    """The texts of a file, one a line, read as they are asked for; and what became of each.

    Iterate it for the texts to send; hand each of the server's answers to `settle`, and take from `settled` what may be
    shown. A line that is no text is answered here: it is not sent, and its answer is an error like the server's.
    shown, failed: how many answers were taken, and how many of these are errors. unread: why the file could not be read
    to its end, if so; the lines before count as all there are.
    """

    def __init__(self, lines: Iterable[bytes], separator: str, max_characters: int) -> None:
        """max_characters: of a text, as the server takes them. A line beyond may be too large a message, and those end
        the stream."""
        self._lines = lines
        self._separator = separator
        self._max_characters = max_characters
        # Texts are read by gRPC's thread and settled by the caller's, so each dictionary is only added to by one and
        # taken from by the other, item by item.
        self._line_of_sent: dict[int, int] = {}
        self._settled: dict[int, pb.StreamAnalyzeResponse] = {}
        self.shown = 0
        self.failed = 0
        self.first_failure: pb.StreamAnalyzeResponse | None = None
        self.unread: OSError | None = None

    def __iter__(self) -> Iterator[InputText]:
        sent = 0
        for number, line in enumerate(self._read(), start=1):
            try:
                text = self._text(line.removeprefix(BOM_UTF8) if number == 1 else line)
            except (UnicodeDecodeError, UsageError) as error:
                message = str(error) if isinstance(error, UsageError) else "not UTF-8"
                refusal = pb.ItemError(code=INVALID_ARGUMENT, message=message)
                self._settled[number] = pb.StreamAnalyzeResponse(id=str(number), error=refusal)
                continue
            self._line_of_sent[sent] = number
            sent += 1
            yield text

    def _text(self, line: bytes) -> InputText:
        """Raises UnicodeDecodeError, UsageError."""
        text = split_pair(line.removesuffix(b"\n").removesuffix(b"\r").decode(), self._separator)
        longest = max(len(part) for part in ((text,) if isinstance(text, str) else text))
        if longest > self._max_characters:
            raise UsageError(f"{longest} characters, the server takes {self._max_characters} (its --max-characters)")
        return text

    def _read(self) -> Iterator[bytes]:
        # What is raised in gRPC's thread would reach the caller as a failed call without its reason.
        try:
            yield from self._lines
        except OSError as error:
            self.unread = error

    def settle(self, response: pb.StreamAnalyzeResponse) -> None:
        """An answer of the server, under the index of its text. Its id becomes the number of its line, from 1."""
        number = self._line_of_sent.pop(int(response.id))
        response.id = str(number)
        self._settled[number] = response

    def settled(self) -> Iterator[pb.StreamAnalyzeResponse]:
        """The answers that are next in the order of the lines, each once; later ones are held back."""
        while (response := self._settled.pop(self.shown + 1, None)) is not None:
            self.shown += 1
            if response.HasField("error"):
                self.failed += 1
                self.first_failure = self.first_failure or response
            yield response
