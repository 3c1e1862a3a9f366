"""Answers of services, kept as they come: the same call is not made twice, and a run can be made again without them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xlam_jax.apigen.api import Api
from xlam_jax.apigen.outcome import Outcome
from xlam_jax.errors import InputError


class Answers:
    """A file of answers, a line each: `{api, arguments, status, value, error}`; the first one of a call counts.

    A last line that a kill cut is left out.

    Raises:
      InputError: another line that is no answer.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._known: dict[str, Outcome] = {}
        if not self.path.is_file():
            return
        data = self.path.read_bytes()
        for number, line in enumerate(data.splitlines(keepends=True), 1):
            try:
                row = json.loads(line)
                outcome = Outcome(row["status"], row["value"], row["error"])
                self._known.setdefault(_key(row["api"], row["arguments"]), outcome)
            except (ValueError, KeyError, TypeError) as e:
                if line.endswith(b"\n"):
                    raise InputError(f"not an answer of a service: {e}", where=f"{path}:{number}") from e
        if data and not data.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")

    def get(self, api: Api, arguments: dict[str, Any]) -> Outcome | None:
        """What the service answered to this call."""
        return self._known.get(_key(api.id, arguments))

    def keep(self, api: Api, arguments: dict[str, Any], outcome: Outcome) -> None:
        """Adds an answer, on disk before this returns; one write, so that several processes may share the file."""
        self._known[_key(api.id, arguments)] = outcome
        said = {k: v for k, v in asdict(outcome).items() if k != "seconds"}
        line = json.dumps({"api": api.id, "arguments": arguments, **said}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode("utf-8", "replace"))


def _key(api: str, arguments: dict[str, Any]) -> str:
    return json.dumps([api, arguments], sort_keys=True)
