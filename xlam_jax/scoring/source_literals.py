"""Java and JavaScript literals read as the languages have them, for the strict rules.

BFCL's own reading (`source_values`) splits text at every comma and knows a few spellings; published scores depend on
that. Here quotes protect commas, literals nest, and the usual spellings of collections are known. What is no literal
(a name, a call, an expression) stands for itself as text, as in the published answers.
"""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`)
    |(?P<number>-?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?[lLfFdDn]?(?![\w.]))
    |(?P<word>[A-Za-z_$][\w$.]*)|(?P<mark>\S))""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_WORDS = {"true": True, "false": False, "null": None, "undefined": None}
_LISTS = {"Arrays.asList", "List.of", "Set.of", "Array", "Arrays.stream", "Array.of"}


class _NoLiteral(Exception):
    """The text is an expression."""


def read_literal(text: str, language: str) -> Any:
    """The value of a literal: text, number, boolean, None, list or dict; the text itself where it is none.

    Args:
      language: "java" or "javascript".

    Example:
      >>> read_literal('new ArrayList<>(Arrays.asList("a, b", "c"))', "java"), read_literal("{a: [1n]}", "javascript")
      (['a, b', 'c'], {'a': [1]})
      >>> read_literal("users.get(0)", "java")
      'users.get(0)'
    """
    reader = _Reader(text, language)
    try:
        value = reader.value()
        return value if reader.at_end() else text.strip()
    except (_NoLiteral, RecursionError):
        return text.strip()


def number_suffix(text: str) -> str:
    """The letter behind a number, lower case; empty where there is none."""
    match = re.fullmatch(r"\s*-?[\d_.]+(?:[eE][+-]?\d+)?([lLfFdDn])\s*", text)
    return match[1].lower() if match else ""


class _Reader:
    def __init__(self, text: str, language: str):
        self.text, self.java = text, language == "java"
        self.tokens = [(m.lastgroup or "", m[m.lastgroup or 0], m.start(m.lastgroup or 0), m.end())
                       for m in _TOKEN.finditer(text)]  # fmt: skip
        self.at = 0

    def at_end(self) -> bool:
        return self.at >= len(self.tokens)

    def value(self) -> Any:
        kind, word = self._peek()
        if kind == "text":
            self.at += 1
            return _unescaped(word[1:-1])
        if kind == "number":
            self.at += 1
            digits = word.replace("_", "").rstrip("lLfFdDn")
            return int(digits) if re.fullmatch(r"-?\d+", digits) and word[-1] not in "fFdD" else float(digits)
        if word == "[" and not self.java:
            return self._list("[", "]")
        if word == "{" and not self.java:
            return self._object()
        if word in _WORDS:
            self.at += 1
            return _WORDS[word]
        if word in _LISTS:
            self.at += 1
            return self._list("(", ")")
        if word == "Map.of":
            self.at += 1
            flat = self._list("(", ")")
            return dict(zip(flat[::2], flat[1::2], strict=False))
        if word == "new":
            return self._new()
        raise _NoLiteral

    def item(self) -> Any:
        """A value, or the text of an expression up to the next comma or closing bracket."""
        start = self.at
        try:
            value = self.value()
            if self.at_end() or self._peek()[1] in ",)]};:":
                return value
        except _NoLiteral:
            pass
        self.at, depth = start, 0
        while not self.at_end():
            word = self._peek()[1]
            if depth == 0 and word in ",)]}":
                break
            depth += (word in "([{") - (word in ")]}")
            self.at += 1
        if self.at == start:
            raise _NoLiteral
        return self.text[self.tokens[start][2] : self.tokens[self.at - 1][3]]

    def _peek(self) -> tuple[str, str]:
        if self.at_end():
            raise _NoLiteral
        return self.tokens[self.at][:2]

    def _take(self, mark: str) -> bool:
        if not self.at_end() and self._peek()[1] == mark:
            self.at += 1
            return True
        return False

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise _NoLiteral

    def _list(self, opening: str, closing: str) -> list[Any]:
        self._expect(opening)
        out: list[Any] = []
        while not self._take(closing):
            out.append(self._braces() if self.java and self._peek()[1] == "{" else self.item())
            if not self._take(","):
                self._expect(closing)
                break
        return out

    def _braces(self) -> list[Any]:
        return self._list("{", "}")

    def _object(self) -> dict[str, Any]:
        self._expect("{")
        out: dict[str, Any] = {}
        while not self._take("}"):
            kind, key = self._peek()
            self.at += 1
            if kind not in ("text", "word", "number"):
                raise _NoLiteral
            key = _unescaped(key[1:-1]) if kind == "text" else key
            out[key] = self.item() if self._take(":") else key
            if not self._take(","):
                self._expect("}")
                break
        return out

    def _new(self) -> Any:
        self._expect("new")
        name = self._peek()[1]
        self.at += 1
        if self._take("<"):
            depth = 1
            while depth:
                word = self._peek()[1]
                depth += (word == "<") - (word == ">")
                self.at += 1
        array = False
        while self._take("["):
            self._expect("]")
            array = True
        if array:
            return self._braces()
        arguments = self._list("(", ")")
        simple = name.rpartition(".")[2]
        filled = self._filled() if not self.at_end() and self._peek()[1] == "{" else None
        if "Map" in simple or simple == "Hashtable":
            if any(not isinstance(a, dict) for a in arguments):
                raise _NoLiteral
            return dict(filled or (arguments[0] if arguments else {}))
        if filled is not None:
            return [value for (value,) in filled]
        if simple == "Array":
            return arguments
        if re.search(r"List|Set|Queue|Deque|Stack|Vector", simple) and all(
            isinstance(a, list) for a in arguments
        ):
            return arguments[0] if arguments else []
        raise _NoLiteral

    def _filled(self) -> list[Any]:
        """The arguments of each `add` or `put` inside double braces."""
        self._expect("{")
        self._expect("{")
        out: list[Any] = []
        while not self._take("}"):
            method = self._peek()[1]
            self.at += 1
            arguments = self._list("(", ")")
            if len(arguments) != {"add": 1, "push": 1, "put": 2}.get(method):
                raise _NoLiteral
            out.append(tuple(arguments))
            self._take(";")
        self._expect("}")
        return out


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _ESCAPED.get(m[2], m[2]), text)
