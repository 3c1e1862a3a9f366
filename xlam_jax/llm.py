"""A client for any OpenAI-compatible endpoint that never asks the same thing twice."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need

Messages = list[dict[str, Any]]


class LLMError(WorkError):
    """An answer that could not be had, after all retries; `code` is the HTTP status, 0 without one."""

    def __init__(self, what: str, code: int = 0, where: str = ""):
        super().__init__(what, where=where)
        self.code = code


class LLM:
    """Chat completions, and those of a prompt, with a cache, retries and threads.

    Args:
      base_url: of the endpoint, such as `http://localhost:8000/v1`.
      model: the name the endpoint knows it by.
      api_key_env: environment variable that holds the key; local servers need none.
      cache: append-only JSONL of answers, keyed by model, messages, settings and sample; a rerun reads it
        and asks only for what is missing. None keeps answers in memory.
      concurrency: requests in flight in `complete_many`.
      retries: of a request that failed with 408, 409, 429, 5xx or no connection, after growing pauses.

    Raises:
      InputError: the `openai` package is not installed.

    Example:
      >>> llm = LLM("http://localhost:8000/v1", "judge", cache=Path("judge.jsonl"))  # doctest: +SKIP
      >>> llm.complete([{"role": "user", "content": "Hello"}])  # doctest: +SKIP
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        cache: str | os.PathLike[str] | None = None,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        concurrency: int = 8,
        retries: int = 5,
    ):
        need("openai", "llm", where=base_url)
        import openai

        self.base_url, self.model = base_url, model
        self.temperature, self.max_tokens, self.concurrency = temperature, max_tokens, concurrency
        self.asked = self.prompt_tokens = self.completion_tokens = 0
        self._openai = openai
        key = os.environ.get(api_key_env) or "none"
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=retries)
        self._path = Path(cache) if cache else None
        self._answers = _load(self._path) if self._path else {}
        self._lock = threading.Lock()

    def served(self) -> str:
        """The name of the first model that the endpoint has.

        Raises:
          LLMError: it names none.
        """
        try:
            return next(iter(self._client.with_options(max_retries=1).models.list())).id
        except (self._openai.OpenAIError, StopIteration, ValueError, AttributeError, TypeError) as e:
            raise LLMError(
                f"the endpoint names no model: {type(e).__name__}: {str(e)[:200]}", 0, self.base_url
            ) from e

    def complete(self, messages: Messages, *, json_mode: bool = False, sample: int = 0) -> str:
        """The answer's text.

        Args:
          json_mode: asks the endpoint for a JSON object.
          sample: number of the draw; another number asks anew where the cache has an answer.

        Raises:
          LLMError: no answer.
        """
        key = self._key(messages, json_mode, sample)
        if key not in self._answers:
            self._keep(key, self._ask(messages, json_mode))
        return self._answers[key]

    def complete_many(
        self,
        batch: Sequence[Messages],
        *,
        json_mode: bool = False,
        sample: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[str | LLMError]:
        """One answer or error for each of the batch, in its order; equal messages are asked once.

        Args:
          progress: called with the number of requests answered so far.
        """
        keys = [self._key(messages, json_mode, sample) for messages in batch]
        return self._many(keys, [partial(self._ask, messages, json_mode) for messages in batch], progress)

    def call_many(
        self,
        batch: Sequence[tuple[Messages, list[dict[str, Any]]]],
        progress: Callable[[int], None] | None = None,
    ) -> list[str | LLMError]:
        """`complete_many` with tools (OpenAI's form) beside each conversation.

        Returns:
          JSON texts of `{"content", "tool_calls", "finish_reason", "prompt_tokens", "completion_tokens"}`, as the
          endpoint has them; null where it says nothing.
        """
        keys = [self._key(messages, False, 0, tools) for messages, tools in batch]
        return self._many(keys, [partial(self._call, messages, tools) for messages, tools in batch], progress)

    def continue_many(
        self,
        prompts: Sequence[Sequence[int]],
        stop: str,
        progress: Callable[[int], None] | None = None,
    ) -> list[str | LLMError]:
        """What the model says after each prompt, by `/completions`.

        Special tokens are asked for as text, which vLLM and SGLang would leave out; other servers ignore the wish.

        Args:
          prompts: token ids, so that nobody puts a first token before them again.
          stop: text that ends an answer.

        Returns:
          JSON texts of `{"text", "finish_reason", "prompt_tokens", "completion_tokens"}`.
        """
        keys = [self._key([{"ids": list(ids), "stop": stop}], False, 0) for ids in prompts]
        return self._many(keys, [partial(self._continue, list(ids), stop) for ids in prompts], progress)

    def _many(
        self, keys: Sequence[str], asks: Sequence[Callable[[], str]], progress: Callable[[int], None] | None
    ) -> list[str | LLMError]:
        open_ = {k: ask for k, ask in zip(keys, asks, strict=True) if k not in self._answers}
        futures: dict[str, Future[str]] = {}

        def answer(key: str, ask: Callable[[], str]) -> str:
            self._keep(key, ask())
            return self._answers[key]

        with ThreadPoolExecutor(max(1, min(self.concurrency, len(open_)))) as pool:
            for key, ask in open_.items():
                futures[key] = pool.submit(answer, key, ask)
            try:
                for done, future in enumerate(futures.values(), 1):
                    future.exception()
                    if progress:
                        progress(done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [_value(futures[key]) if key in futures else self._answers[key] for key in keys]

    def _ask(self, messages: Messages, json_mode: bool) -> str:
        settings: dict[str, Any] = {"response_format": {"type": "json_object"}} if json_mode else {}
        settings["messages"] = messages
        return self._completion(
            self._client.chat.completions.create,
            settings,
            lambda answer: answer.choices[0].message.content or "",
        )

    def _call(self, messages: Messages, tools: list[dict[str, Any]]) -> str:
        def reply(answer: Any) -> str:
            choice, usage = answer.choices[0], answer.usage
            calls = [call.model_dump(exclude_none=True) for call in choice.message.tool_calls or ()]
            message = {"content": choice.message.content, "tool_calls": calls or None}
            message |= {"finish_reason": choice.finish_reason}
            message |= {k: getattr(usage, k, None) for k in ("prompt_tokens", "completion_tokens")}
            return json.dumps(message, ensure_ascii=False)

        settings = {"messages": messages, **({"tools": tools} if tools else {})}
        return self._completion(self._client.chat.completions.create, settings, reply)

    def _continue(self, ids: list[int], stop: str) -> str:
        def reply(answer: Any) -> str:
            choice, usage = answer.choices[0], answer.usage
            said = {"text": choice.text or "", "finish_reason": choice.finish_reason}
            said |= {k: getattr(usage, k, None) for k in ("prompt_tokens", "completion_tokens")}
            return json.dumps(said, ensure_ascii=False)

        whole = {"skip_special_tokens": False, "spaces_between_special_tokens": False}
        settings = {"prompt": ids, "stop": [stop], "extra_body": whole}
        return self._completion(self._client.completions.create, settings, reply)

    def _completion(
        self, create: Callable[..., Any], settings: dict[str, Any], read: Callable[[Any], str]
    ) -> str:
        settings = {"temperature": self.temperature, **settings, "max_tokens": self.max_tokens}
        with self._lock:
            self.asked += 1
        try:
            answer = create(model=self.model, **settings)
            with self._lock:  # an endpoint need not count
                self.prompt_tokens += getattr(answer.usage, "prompt_tokens", None) or 0
                self.completion_tokens += getattr(answer.usage, "completion_tokens", None) or 0
            return read(answer)
        except self._openai.APIStatusError as e:
            raise LLMError(f"HTTP {e.status_code}: {str(e)[:200]}", e.status_code, self.base_url) from e
        except (self._openai.OpenAIError, ValueError, AttributeError, IndexError, TypeError) as e:
            # An endpoint that answers with something else than a completion gives the latter ones.
            raise LLMError(f"{type(e).__name__}: {str(e)[:200]}", 0, self.base_url) from e

    def _key(self, messages: Messages, json_mode: bool, sample: int, tools: list[Any] | None = None) -> str:
        settings = [self.model, messages, self.temperature, self.max_tokens, json_mode, sample]
        settings += [tools] if tools is not None else []
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _keep(self, key: str, answer: str) -> None:
        with self._lock:
            self._answers[key] = answer
            if self._path:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("ab") as file:
                    file.write(json.dumps({"key": key, "answer": answer}).encode() + b"\n")


def _value(future: Future[str]) -> str | LLMError:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, LLMError):
        return error
    raise error


def _load(path: Path) -> dict[str, str]:
    """Answers of an earlier run; a last line that a kill cut short is cut off."""
    if not path.exists():
        return {}
    answers = {}
    with path.open("r+b") as file:
        end = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                file.truncate(end)
                break
            end += len(line)
            try:
                entry = json.loads(line)
                answers[entry["key"]] = entry["answer"]
            except (ValueError, TypeError, KeyError) as e:
                raise InputError(
                    "not an answer of this cache", where=f"{path}:{number}", hint="delete the file"
                ) from e
    return answers
