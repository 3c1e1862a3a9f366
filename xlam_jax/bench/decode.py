"""Decoding speed beside transformers' `generate`: the same weights, prompts and lengths, in turns, in one run.

What is timed is a whole greedy `generate` call of n + 1 new tokens less one of a single token: n decode steps of
the batch, and all that either engine does on the host for them. The call of a single token is the prefill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlam_jax.bench import protocol
from xlam_jax.errors import InputError, WorkError
from xlam_jax.extras import need
from xlam_jax.inference import Engine

_WORDS = "The tools of a trade are known by the work that they leave behind. "


def bench_decode(
    folder: str | Path,
    *,
    batches: Sequence[int] = (1, 8, 32),
    prompt_tokens: int = 256,
    new_tokens: int = 32,
    repeats: int = 5,
    threads: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Times greedy decoding of a Hugging Face folder, float32, with and without us.

    Args:
      prompt_tokens: length of every prompt.
      new_tokens: decode steps that are timed.
      repeats: timed rounds; both sides take their turn in each, and the fastest call of each length counts, since
        decoding is the small difference of two long calls.
      threads: of torch; XLA takes the cores that the process may use.

    Returns:
      `rows`, one a batch size: tokens/s of decoding and of prefill on both sides and their ratios (ours over
      theirs; null where decoding cannot be told from noise), and `same_tokens`, the share of the generated tokens
      that are the same up to the first difference of each row; beside the machine and versions.

    Raises:
      InputError: a model that cannot hold prompt and answer, or torch is not installed.
    """
    need("torch", "torch", where="the other side of the comparison")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    if not any(Path(folder).glob("*.safetensors")):
        raise InputError(
            "transformers reads Hugging Face folders only",
            where=str(folder),
            hint=f"xlam convert to-hf {folder} DST",
        )
    progress("loading")
    engine = Engine.from_folder(folder, max_len=prompt_tokens + new_tokens + 1, batch_size=max(batches))
    if engine.max_len < prompt_tokens + new_tokens + 1:
        raise InputError(
            f"the model holds {engine.max_len} positions",
            where=str(folder),
            hint="--prompt-tokens, --new-tokens",
        )
    engine.stop_ids = frozenset()  # every row writes all its tokens, on both sides
    theirs: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    theirs.generation_config.eos_token_id = None
    rows = []
    for batch in batches:
        prompts, ids = _prompts(engine, batch, prompt_tokens)
        tensor = torch.from_numpy(ids)

        def ours(count: int, prompts: list[str] = prompts) -> np.ndarray:
            made = engine.generate(prompts, max_new_tokens=count)
            return np.asarray([g.token_ids for g in made])

        def torchs(count: int, tensor: Any = tensor) -> np.ndarray:
            with torch.inference_mode():
                made = theirs.generate(
                    tensor, attention_mask=torch.ones_like(tensor), do_sample=False, max_new_tokens=count,
                    min_new_tokens=count, pad_token_id=0,
                )  # fmt: skip
            return made[:, prompt_tokens:].numpy()

        progress(f"batch {batch}: compiling")
        same = _agreement(ours(new_tokens + 1), torchs(new_tokens + 1))
        seconds: dict[str, list[tuple[float, float]]] = {"xlam": [], "transformers": []}
        for k in range(repeats):
            progress(f"batch {batch}: round {k + 1} of {repeats}")
            for name, side in (("xlam", ours), ("transformers", torchs)):
                seconds[name].append((_seconds(side, 1), _seconds(side, new_tokens + 1)))
        row: dict[str, Any] = {"batch": batch}
        for name, times in seconds.items():
            prefill, whole = np.min(np.asarray(times), axis=0)
            # Where a busy machine, or a model of no size, leaves no difference, there is no speed to tell.
            row[f"{name}_decode"] = batch * new_tokens / float(whole - prefill) if whole > prefill else None
            row[f"{name}_prefill"] = batch * prompt_tokens / float(prefill)
        both = row["xlam_decode"], row["transformers_decode"]
        row["decode_ratio"] = both[0] / both[1] if all(both) else None
        row["prefill_ratio"] = row["xlam_prefill"] / row["transformers_prefill"]
        rows.append({**row, "same_tokens": same})
    return {
        "model": Path(folder).name,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "repeats": repeats,
        "threads": threads,
        "rows": rows,
        **protocol.environment(),
    }


def _prompts(engine: Engine, batch: int, length: int) -> tuple[list[str], np.ndarray]:
    """Texts of exactly `length` tokens that differ from each other, and their ids [batch, length]."""
    text, texts, ids = _WORDS * length, [], []
    for i in range(batch):
        row = engine.encode(f"{i}. {text}")[:length]
        texts.append(engine.tokenizer.decode(row, clean_up_tokenization_spaces=False))
        ids.append(engine.encode(texts[-1]))
    if any(len(row) != length for row in ids):
        raise WorkError("the tokenizer does not give a cut text its own tokens back", where="prompts")
    return texts, np.asarray(ids, np.int64)


def _agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.logical_and.accumulate(ours == theirs, axis=1).mean())


def _seconds(run: Callable[[int], Any], count: int) -> float:
    begun = time.perf_counter()
    run(count)
    return time.perf_counter() - begun
