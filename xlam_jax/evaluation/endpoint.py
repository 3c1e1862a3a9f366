"""A model behind an OpenAI-compatible endpoint, as a harness asks it: chat with tools, or our own prompts continued.

An answer of a chat is kept as the message that came, which is one of our call formats (`openai`): its words are no
calls, so a refusal in words is one. Function names go out with `_` for what endpoints do not take in a name, and come
back as they were. A prompt goes out as token ids, by the tokenizer of the folder that the model was released in.
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
from xlam_jax.format import get_codec
from xlam_jax.llm import LLM, LLMError

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
# The endpoint refuses the request itself; asking again, or for other rows, is not in vain.
_OF_THIS_CASE = (400, 413, 422)


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
        self.llm = LLM(base, name or LLM(base, "").served(), cache=cache, **settings)
        self.name = f"{base}#{self.llm.model}"
        self.codec = get_codec(call_format="openai")

    def __call__(self, cases: Sequence[Case]) -> list[Raw]:
        """What the endpoint says to each case; `seconds` is the batch's time over its cases.

        Raises:
          InputError: a case without its record.
          LLMError: no answer after all retries, for another reason than the request itself.
        """
        began = time.perf_counter()
        names = [{_STRANGE.sub("_", tool.name): tool.name for tool in case.tools} for case in cases]
        answers = self.llm.call_many([self._question(case) for case in cases])
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


class Completions:
    """Answers cases by `/completions`, with the prompts that a model was trained on.

    Args:
      url, concurrency, max_tokens, temperature, cache: as `Endpoint`.
      folder: of the model that is served, or a training run: its codec and its tokenizer.

    Raises:
      InputError: no model folder, or the openai client is not installed.
      LLMError: the endpoint names no model.
    """

    def __init__(self, url: str, folder: Path, **settings: Any):
        from xlam_jax.inference.engine import folder_codec, folder_tokenizer

        self.codec, self._tokenizer = folder_codec(folder), folder_tokenizer(folder)
        endpoint = Endpoint(url, **settings)
        self.name, self._llm = endpoint.name, endpoint.llm

    def __call__(self, cases: Sequence[Case]) -> list[Raw]:
        """What the endpoint says to each case; `seconds` is the batch's time over its cases.

        Raises:
          LLMError: no answer after all retries, for another reason than the request itself.
        """
        from xlam_jax.inference.engine import encode

        began = time.perf_counter()
        prompts = [encode(self._tokenizer, case.prompt) for case in cases]
        answers = self._llm.continue_many(prompts, self.codec.stop)
        seconds = (time.perf_counter() - began) / max(1, len(cases))
        return [_continued(answer, self.codec.stop, seconds) for answer in answers]


def _refused(error: LLMError) -> Raw:
    if error.code not in _OF_THIS_CASE:
        raise error
    return Raw(refused=error.what, finish_reason="endpoint")


def _continued(answer: str | LLMError, stop: str, seconds: float) -> Raw:
    if isinstance(answer, LLMError):
        return _refused(answer)
    said = json.loads(answer)
    tokens = said["completion_tokens"] or 1
    text = said["text"].removesuffix(stop)  # some servers leave it there
    return Raw(text, said["finish_reason"] or "stop", said["prompt_tokens"] or 0, tokens, seconds)


def _raw(answer: str | LLMError, back: dict[str, str], seconds: float) -> Raw:
    if isinstance(answer, LLMError):
        return _refused(answer)
    answered = json.loads(answer)
    for call in answered["tool_calls"] or ():
        function = call.get("function", {})
        function["name"] = back.get(function.get("name"), function.get("name"))
    message = json.dumps({key: answered[key] for key in ("content", "tool_calls")}, ensure_ascii=False)
    tokens = answered["completion_tokens"] or 1
    return Raw(message, answered["finish_reason"] or "stop", answered["prompt_tokens"] or 0, tokens, seconds)
