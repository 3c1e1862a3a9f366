"""A row of a raw data set, and the refusal of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class Refused(Exception):
    """A row that cannot become a Record; `code` goes to the ledger."""

    def __init__(self, code: str, detail: str = ""):
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail

    def __reduce__(self) -> tuple[Any, ...]:
        return Refused, (self.code, self.detail)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
      where: `file:line`, or the file and the place in it.
      raw: its JSON text, parsed when asked for: workers parse, the reader only cuts lines.
      parsed: its value, where the reader had to parse anyway.
      extra: what a row needs from beside it (answers, tool documents).
      typed: whether it comes from a table of one type for all rows, which fills what a row lacks with null.
    """

    where: str
    raw: bytes | None = None
    parsed: Any = None
    extra: Any = None
    typed: bool = False

    @property
    def value(self) -> Any:
        """The row's value; Refused `bad_utf8` or `bad_json`."""
        if self.raw is None:
            return self.parsed
        try:
            return json.loads(self.raw.decode("utf-8"))
        except UnicodeDecodeError as e:
            raise Refused("bad_utf8", str(e)) from None
        except (ValueError, RecursionError) as e:
            raise Refused("bad_json", str(e)) from None

    @property
    def obj(self) -> dict[str, Any]:
        """The value, which must be an object; Refused `not_an_object`."""
        value = self.value
        if not isinstance(value, dict):
            raise Refused("not_an_object", type(value).__name__)
        return value
