"""The engine: prompts in, generations out, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.format import Codec, get_codec
from xlam_jax.inference.batching import DecodeBatch, Request, Stats, Watch
from xlam_jax.inference.grammar import Grammars
from xlam_jax.inference.sampler import Sampling
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.lora import attach
from xlam_jax.models.params import Params, unstack


@dataclass(frozen=True)
class Generation:
    """What one prompt led to.

    Attributes:
      text: decoded once from `token_ids`, special tokens written out, the stop token removed.
      token_ids: as drawn, stop token included. Never encode `text` again: other ids may give the same text.
      finish_reason: "stop", or "length" when the token budget or the engine's `max_len` ended it. "length"
        without token ids means that the prompt itself did not fit. "broken" when `until_broken` ended it.
      prompt_tokens: length of the prompt in tokens.
      seconds: from the start of this prompt's prefill to its last token.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    seconds: float


class Engine:
    """Generates with one model.

    Args:
      params: stacked or unstacked parameters; kept unstacked.
      tokenizer: a fast Hugging Face tokenizer.
      codec: gives the stop token, and the text around an answer in constrained decoding.
      max_len: prompt and answer together, in tokens.
      batch_size: sequences that decode together.
      adapters: trees of LoRA adapters by name, none of them in use yet (see `use`).
      stop_ids: tokens that end an answer beside those of the codec and the config.

    Raises:
      InputError: the tokenizer lacks the stop token, or has more tokens than the model.
    """

    def __init__(
        self,
        params: Params,
        cfg: ModelConfig,
        tokenizer: Any,
        codec: Codec,
        *,
        max_len: int = 1024,
        batch_size: int = 32,
        adapters: Mapping[str, Params] | None = None,
        stop_ids: Sequence[int] = (),
    ):
        stop = tokenizer.get_vocab().get(codec.stop)
        if stop is None:
            raise InputError(
                f"the tokenizer has no token {codec.stop!r}",
                where=f"stop token of the chat template {codec.template!r}",
                hint="the codec the model was trained with, see xlam.json in its folder",
            )
        self.cfg, self.tokenizer, self.codec = cfg, tokenizer, codec
        self.params = self._base = unstack(params)
        self._adapters = {name: attach(self._base, tree) for name, tree in (adapters or {}).items()}
        self.max_len = min(max_len, cfg.max_position_embeddings)
        self.batch_size = batch_size
        self.stop_ids = frozenset({stop, *cfg.eos_token_ids, *stop_ids})
        around = (codec.chat.lead, codec.chat.before_stop)
        self.grammars = Grammars(tokenizer, cfg.vocab_size, stop, around)
        self.stats = Stats()

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that `use` takes."""
        return tuple(self._adapters)

    def use(self, adapter: str | None) -> None:
        """Answers with this adapter from now on; None: with the model alone.

        Raises:
          InputError: no adapter of that name.
        """
        if adapter is not None and adapter not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise InputError(f"no adapter is called {adapter!r}", where="adapter", hint=f"known: {known}")
        self.params = self._base if adapter is None else self._adapters[adapter]

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        codec: Codec | None = None,
        adapters: Mapping[str, str | Path] | None = None,
        **kwargs: Any,
    ) -> Engine:
        """Loads a model folder or a training run, with the codec it names (else the default one), and stops at every
        token that its generation_config.json names.

        Args:
          adapters: PEFT folders by name.

        Raises:
          InputError: no such folder, or files that do not fit together.
        """
        from xlam_jax.weights import inspect, load_model
        from xlam_jax.weights.generation import stop_ids
        from xlam_jax.weights.peft_in import load_peft

        folder = Path(folder)
        if not folder.is_dir():
            raise InputError("model folder not found", where=str(folder), hint="check the path")
        ends = stop_ids(inspect(folder).folder)
        cfg, params = load_model(folder)
        tokenizer = folder_tokenizer(folder)
        folder = inspect(folder).folder  # of a training run: what explains its parameters
        loaded = {name: load_peft(path, cfg) for name, path in (adapters or {}).items()}
        codec = codec or folder_codec(folder)
        return cls(unstack(params), cfg, tokenizer, codec, adapters=loaded, stop_ids=ends, **kwargs)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt."""
        return encode(self.tokenizer, prompt)

    def grammar_error(self, grammar: str) -> str:
        """Why constrained decoding cannot follow this grammar; empty when it can."""
        try:
            self.grammars.matcher(grammar)
        except InputError as e:
            return e.what
        return ""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        grammars: Sequence[str | None] | None = None,
        until_broken: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Generation]:
        """Continues each prompt.

        Args:
          max_new_tokens: budget of each answer; smaller where `max_len` leaves less.
          temperature: 0 is greedy.
          top_p: mass of the nucleus that is drawn from.
          seed: prompt number i draws with a key made of (seed, i), whatever the batches.
          grammars: a grammar per prompt (see `Codec.grammar`) that its answer must follow, None for none.
          until_broken: end an answer as soon as its text can no longer become one that the codec parses.
          progress: called with (finished, all) after each sequence.

        Raises:
          InputError: an empty prompt, a grammar that cannot be compiled, or lists of unequal length.
        """
        if grammars is not None and len(grammars) != len(prompts):
            raise InputError(f"{len(prompts)} prompts, but {len(grammars)} grammars")
        requests = []
        for number, prompt in enumerate(prompts):
            ids = self.encode(prompt)
            if not ids:
                raise InputError("empty prompt", where=f"prompt {number}")
            grammar = grammars[number] if grammars is not None else None
            matcher = self.grammars.matcher(grammar) if grammar is not None else None
            watch = Watch(self._decode, self.codec.stream(words=False)) if until_broken else None
            budget = min(max_new_tokens, self.max_len - len(ids))
            requests.append(Request(number, ids, budget, matcher, watch))
        finished = 0

        def done(request: Request) -> None:
            nonlocal finished
            finished += 1
            if progress is not None:
                progress(finished, len(requests))

        fitting = [r for r in requests if r.budget > 0]
        if fitting:
            DecodeBatch(
                self.params,
                self.cfg,
                fitting,
                rows=min(self.batch_size, 1 << (len(fitting) - 1).bit_length()),
                stop_ids=self.stop_ids,
                sampling=Sampling(temperature, top_p),
                seed=seed,
                grammars=self.grammars,
                stats=self.stats,
                done=done,
            ).run()
        for request in requests:
            if request.budget <= 0:
                request.finish_reason = "length"
                done(request)
        return [self._generation(r) for r in requests]

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _generation(self, request: Request) -> Generation:
        ids = request.tokens
        kept = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        return Generation(
            self._decode(kept), tuple(ids), request.finish_reason, len(request.prompt), request.seconds
        )


def encode(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt of a codec, whose special tokens (the first one too) are part of the text."""
    return tokenizer(prompt, add_special_tokens=False)["input_ids"]


def folder_tokenizer(folder: str | Path) -> Any:
    """The tokenizer of a model folder or a training run.

    Raises:
      InputError: there is none that can be read.
    """
    from transformers import AutoTokenizer

    from xlam_jax.weights import inspect

    place = inspect(folder).folder
    try:
        return AutoTokenizer.from_pretrained(str(place))
    except (OSError, ValueError) as e:
        raise InputError(f"no usable tokenizer: {str(e).splitlines()[0]}", where=str(place)) from e


def folder_codec(folder: str | Path) -> Codec:
    """The codec a model folder (in its xlam.json) or training run names; the default where it names none."""
    from xlam_jax.weights import inspect

    names = inspect(folder).codec or {}
    try:
        return get_codec(**names)
    except TypeError as e:
        raise InputError(f"unknown codec choice: {e}", where=str(folder)) from e
