"""A model behind an OpenAI-compatible endpoint, as a harness asks it: chat completions with tools.

An answer is kept as the message that came, which is one of our call formats (`openai`): its words are no calls, so a
refusal in words is one. Function names go out with `_` for what endpoints do not take in a name, and come back as they
were.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.harness import Case, Raw
from xlam_jax.format import Codec, get_codec
from xlam_jax.llm import LLM, LLMError

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
# The endpoint refuses the request itself; asking again, or for other rows, is not in vain.
_OF_THIS_CASE = (400, 413, 422)


def endpoint_codec() -> Codec:
    """The codec that reads the answers."""
    return get_codec(call_format="openai")


class Endpoint:
    """Answers cases; equal questions are asked once.

    Args:
      url: base URL, such as `http://localhost:8000/v1`; the name of the model after a `#`, else the first that the
        endpoint names.
      concurrency: requests in flight.
      max_tokens: longest answer.
      temperature: 0 is greedy.
      cache: a file of answers, from which a run that was stopped takes what it had.

    Raises:
      InputError: the openai client is not installed.
      LLMError: the endpoint names no model.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 8,
        max_tokens: int = 256,
        temperature: float = 0.0,
        cache: Path | None = None,
    ):
        base, _, name = url.partition("#")
        settings: dict[str, Any] = {
            "temperature": temperature,
            "max_tokens": max_tokens,
            "concurrency": concurrency,
        }
        self._llm = LLM(base, name or LLM(base, "").served(), cache=cache, **settings)
        self.name = f"{base}#{self._llm.model}"
        self.codec = endpoint_codec()

    def __call__(self, cases: Sequence[Case]) -> list[Raw]:
        """What the endpoint says to each case; `seconds` is the batch's time over its cases.

        Raises:
          InputError: a case without its record.
          LLMError: no answer after all retries, for another reason than the request itself.
        """
        began = time.perf_counter()
        names = [{_STRANGE.sub("_", tool.name): tool.name for tool in case.tools} for case in cases]
        answers = self._llm.call_many([self._question(case) for case in cases])
        seconds = (time.perf_counter() - began) / max(1, len(cases))
        return [_raw(answer, back, seconds) for answer, back in zip(answers, names, strict=True)]

    def _question(self, case: Case) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if case.record is None:
            raise InputError("a case without its record cannot be put to an endpoint", where=case.id)
        messages, tools = self.codec.messages(case.record)
        for tool in tools:
            tool["function"] = {**tool["function"], "name": _STRANGE.sub("_", tool["function"]["name"])}
        for call in (c for message in messages for c in message.get("tool_calls") or ()):
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            call["function"] = {"name": _STRANGE.sub("_", function["name"]), "arguments": arguments}
        return messages, tools


def _raw(answer: str | LLMError, back: dict[str, str], seconds: float) -> Raw:
    if isinstance(answer, LLMError):
        if answer.code not in _OF_THIS_CASE:
            raise answer
        return Raw(refused=answer.what, finish_reason="endpoint")
    answered = json.loads(answer)
    for call in answered["tool_calls"] or ():
        function = call.get("function", {})
        function["name"] = back.get(function.get("name"), function.get("name"))
    message = json.dumps({key: answered[key] for key in ("content", "tool_calls")}, ensure_ascii=False)
    tokens = answered["completion_tokens"] or 1
    return Raw(message, answered["finish_reason"] or "stop", answered["prompt_tokens"] or 0, tokens, seconds)
