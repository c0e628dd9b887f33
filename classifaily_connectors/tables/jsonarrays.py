"""A JSON file that is one array of objects, read an object at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import IO

from classifaily_connectors.errors import refuse
from classifaily_connectors.tables.textfiles import JsonlTable

_PIECE = 1 << 16
_BLANK, _CLOSING = " \t\r\n", '}]"'


class JsonTable(JsonlTable):
    """An array of objects: `[{…}, {…}]`."""

    def _lines(self, plain: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        """The objects as lines of their own, and their numbers, from 1."""
        problem = ""
        try:
            with io.TextIOWrapper(plain, "utf-8-sig", newline="") as text:
                for number, element in enumerate(_elements(text), 1):
                    # Line ends stand between the tokens only: within a text, JSON writes them as escapes.
                    yield number, element.replace("\r", " ").replace("\n", " ").encode()
        except UnicodeDecodeError:
            problem = "is not UTF-8: save the file as UTF-8"
        except _NotAnArrayError as error:
            problem = error.problem
        if problem:
            raise refuse(f"{self.name} {problem}")


class _NotAnArrayError(Exception):
    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _Text:
    """A file's text from where the reader stands, a piece at a time."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text, self._at = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def mark(self) -> str:
        """The next character that is no blank; nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go on behind that character."""
        self._at += 1

    def element(self) -> str:
        """The text of the value that begins here."""
        while True:
            end = self._end()
            # A number may go on in the next piece; everything else ends with its own mark.
            certain = end < len(self._text) or self._text[end - 1] in _CLOSING
            if not (end and certain) and self._more():
                continue
            end = self._end()
            if not end:
                raise _NotAnArrayError("is no JSON, or is cut off")
            text, self._at = self._text[self._at : end], end
            return text

    def _end(self) -> int:
        try:
            return self._decode(self._text, self._at)[1]
        except (ValueError, RecursionError):
            return 0

    def _more(self) -> bool:
        piece = self._file.read(_PIECE)
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)


def _elements(file: IO[str]) -> Iterator[str]:
    """The texts of the array's elements, without reading the whole file."""
    text = _Text(file)
    if text.mark() != "[":
        raise _NotAnArrayError("is no JSON array of objects: name it .jsonl if it has one object a line")
    text.skip()
    if text.mark() == "]":
        return
    while True:
        text.mark()
        yield text.element()
        mark = text.mark()
        text.skip()
        if mark == "]":
            return
        if mark != ",":
            raise _NotAnArrayError("is no JSON, or is cut off: behind an object stands a comma or the closing bracket")
