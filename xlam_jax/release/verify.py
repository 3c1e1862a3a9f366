"""Does the released folder compute what we compute? transformers on torch, fp32, is the judge."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import InputError, WorkError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.params import Params
from xlam_jax.release.gguf import load_gguf
from xlam_jax.release.hf_out import DTYPES
from xlam_jax.release.native import load_model
from xlam_jax.release.tokenizer_files import has_tokenizer

PROMPTS = (
    "What is the weather in Paris, and what is 17 * 23?",
    '[{"name": "get_weather", "parameters": {"city": {"type": "string"}}}]',
    "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n",
)


@dataclass(frozen=True)
class Agreement:
    """How far two implementations are apart on the same tokens.

    Attributes:
      tokens: positions compared.
      max_abs: largest difference of two logits.
      relative: `max_abs` divided by the largest absolute logit of the reference.
      argmax: share of positions where both prefer the same token.
    """

    tokens: int
    max_abs: float
    relative: float
    argmax: float

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def verify_hf(
    folder: str | Path,
    params: Params | None = None,
    cfg: ModelConfig | None = None,
    *,
    prompts: Sequence[str] = PROMPTS,
    tolerance: float = 1e-4,
) -> Agreement:
    """Loads a Hugging Face folder with transformers in fp32 and compares logits with our forward pass.

    Args:
      folder: as written by `save_hf`.
      params, cfg: what the folder was written from, already rounded to the folder's dtype; None reads the
        folder, which checks the forward pass but not the export.
      prompts: texts for the folder's tokenizer; without a tokenizer random ids are drawn instead.
      tolerance: largest allowed `Agreement.relative`.

    Raises:
      InputError: torch is not installed.
      WorkError: the two disagree by more than `tolerance`.
    """
    need_torch()
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if params is None or cfg is None:
        cfg, params = load_model(folder, dtype=jnp.float32)
    params = cast(Params, jax.tree.map(lambda a: a.astype(jnp.float32), params))
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    differences, sizes, same = [], [], []
    rows = min(cfg.vocab_size, model.config.vocab_size)
    for ids in _token_ids(Path(folder), rows, prompts):
        with torch.no_grad():
            theirs = model(torch.from_numpy(ids[None].astype(np.int64))).logits[0].numpy()
        ours = _our_logits(params, cfg, ids)
        columns = min(ours.shape[-1], theirs.shape[-1])  # an export may cut or pad the vocabulary
        ours, theirs = ours[:, :columns], theirs[:, :columns]
        differences.append(np.abs(ours - theirs).max())
        sizes.append(np.abs(theirs).max())
        same.extend(ours.argmax(-1) == theirs.argmax(-1))
    max_abs = float(np.max(differences))  # numpy's max keeps a NaN, Python's may drop it
    found = Agreement(len(same), max_abs, max_abs / float(np.max(sizes)), float(np.mean(same)))
    # Written so that a NaN fails too.
    if not found.relative <= tolerance:
        raise WorkError(
            f"transformers and this package disagree: largest difference of logits {max_abs:.3g}, "
            f"{found.relative:.3g} of the largest logit (allowed {tolerance:g}), "
            f"same first choice in {found.argmax:.1%} of {found.tokens} positions",
            where=str(folder),
            hint="do not release this folder",
        )
    return found


def verify_export(src: str | Path, dst: str | Path, *, tolerance: float = 1e-4) -> Agreement:
    """`verify_hf` of the folder `dst` against the model `src` that it was written from.

    Args:
      src: as `load_model` takes it, or a GGUF file; rounded to the dtype of `dst` before it is compared.

    Raises:
      InputError, WorkError: as `verify_hf`.
    """
    dtype = json.loads((Path(dst) / "config.json").read_text(encoding="utf-8"))["dtype"]
    load = load_gguf if Path(src).suffix == ".gguf" else load_model
    cfg, params = load(src, dtype=np.dtype(DTYPES[dtype]))
    return verify_hf(dst, params, cfg, tolerance=tolerance)


def need_torch() -> None:
    """Raises InputError, with the command, when torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            "--verify compares with transformers on torch, which is not installed",
            hint="pip install torch (CPU is enough)",
        )


def _our_logits(params: Params, cfg: ModelConfig, ids: np.ndarray) -> np.ndarray:
    tokens_BS = jnp.asarray(ids[None])
    positions_BS = jnp.arange(len(ids), dtype=jnp.int32)[None]
    hidden, _ = forward(
        params, tokens_BS, positions_BS, jnp.ones_like(tokens_BS), cfg, compute_dtype=jnp.float32
    )
    return np.asarray(logits(params, hidden, cfg)[0])


def _token_ids(folder: Path, vocab_size: int, prompts: Sequence[str]) -> list[np.ndarray]:
    if has_tokenizer(folder):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    else:
        rng = np.random.default_rng(0)
        found = [rng.integers(0, vocab_size, 48) for _ in prompts]
    return [np.asarray(ids, np.int32) for ids in found]
