"""Do the released folder and its source compute what we compute? transformers on torch, fp32, is the judge of both.

Comparing the release alone would not do: what our reader overlooks in the source's config.json is missing in the
release too, and both sides would agree on the wrong model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import WorkError
from xlam_jax.extras import need
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.decoder import forward, logits
from xlam_jax.models.params import Params
from xlam_jax.weights.gguf import load_gguf
from xlam_jax.weights.hf_out import DTYPES
from xlam_jax.weights.orbax_arrays import first_line
from xlam_jax.weights.source import inspect, load_model
from xlam_jax.weights.tokenizer_files import has_tokenizer

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


@dataclass(frozen=True)
class Verified:
    """Our forward pass of the source against transformers on the release, and on the source (None: a GGUF file,
    which transformers does not read by itself)."""

    release: Agreement
    source: Agreement | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object: the release's agreement, and under "source" the source's."""
        return {**self.release.to_json(), "source": self.source.to_json() if self.source else None}


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
      WorkError: the two disagree by more than `tolerance`, or transformers cannot load the folder.
    """
    need_torch()
    if params is None or cfg is None:
        cfg, params = load_model(folder, dtype=jnp.float32)
    rows = _token_ids(Path(folder), cfg.vocab_size, prompts)
    ours = _our_logits(params, cfg, rows)
    return _agreement(_their_logits(folder, rows, where=str(folder)), ours, tolerance, str(folder))


def verify_export(
    src: str | Path, dst: str | Path, *, tolerance: float = 1e-4, called: str | Path | None = None
) -> Verified:
    """Compares three: transformers on `src`, our forward pass of `src`, transformers on `dst`.

    Of a run transformers reads config.json, and the tensors from `dst`.

    Args:
      src: as `load_model` takes it, or a GGUF file; rounded to the dtype of `dst` before it is compared.
      called: what messages call `dst`, where it has not its name yet.

    Raises:
      InputError, WorkError: as `verify_hf`.
    """
    need_torch()
    src, dst = Path(src), Path(dst)
    dtype = json.loads((dst / "config.json").read_text(encoding="utf-8"))["dtype"]
    load = load_gguf if src.suffix == ".gguf" else load_model
    cfg, params = load(src, dtype=np.dtype(DTYPES[dtype]))
    rows = _token_ids(dst, cfg.vocab_size, PROMPTS)
    ours = _our_logits(params, cfg, rows)
    name = str(called or dst)
    release = _agreement(_their_logits(dst, rows, where=name), ours, tolerance, name)
    if src.suffix == ".gguf":
        return Verified(release, None)
    source = inspect(src)
    theirs = (
        _their_logits(src, rows, where=str(src), rounded_to=dtype)
        if source.kind == "hf"
        else _their_logits(dst, rows, where=str(source.folder), config=source.folder)
    )
    hint = "transformers reads config.json otherwise than this package: report the file"
    return Verified(release, _agreement(theirs, ours, tolerance, str(src), hint))


def _agreement(
    theirs: list[np.ndarray],
    ours: list[np.ndarray],
    tolerance: float,
    where: str,
    hint: str = "do not release this model, and report it",
) -> Agreement:
    differences, sizes, same = [], [], []
    for their_SV, our_SV in zip(theirs, ours, strict=True):
        columns = min(our_SV.shape[-1], their_SV.shape[-1])  # an export may cut or pad the vocabulary
        our_SV, their_SV = our_SV[:, :columns], their_SV[:, :columns]
        differences.append(np.abs(our_SV - their_SV).max())
        sizes.append(np.abs(their_SV).max())
        same.extend(our_SV.argmax(-1) == their_SV.argmax(-1))
    max_abs = float(np.max(differences))  # numpy's max keeps a NaN, Python's may drop it
    agreement = Agreement(len(same), max_abs, max_abs / float(np.max(sizes)), float(np.mean(same)))
    # Written so that a NaN fails too.
    if not agreement.relative <= tolerance:
        raise WorkError(
            f"transformers and this package disagree: largest difference of logits {max_abs:.3g}, "
            f"{agreement.relative:.3g} of the largest logit (allowed {tolerance:g}), "
            f"same first choice in {agreement.argmax:.1%} of {agreement.tokens} positions",
            where=where,
            hint=hint,
        )
    return agreement


def _their_logits(
    folder: str | Path,
    rows: list[np.ndarray],
    *,
    where: str,
    config: Path | None = None,
    rounded_to: str | None = None,
) -> list[np.ndarray]:
    """[S, V] of each row; the tensors are those of `folder`, the config that of the folder `config` if given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        about = AutoConfig.from_pretrained(str(config or folder))
        if config:
            about.vocab_size = AutoConfig.from_pretrained(str(folder)).vocab_size
        model = AutoModelForCausalLM.from_pretrained(str(folder), config=about, dtype=torch.float32).eval()
        with torch.no_grad():
            if rounded_to is not None:
                for tensor in model.parameters():
                    tensor.copy_(tensor.to(getattr(torch, rounded_to)))
            return [
                model(torch.from_numpy(ids[None].astype(np.int64)), return_dict=True).logits[0].numpy()
                for ids in rows
            ]
    except Exception as e:  # whatever a model class raises of a config or tensors that it does not take
        raise WorkError(
            f"transformers cannot compute this model: {first_line(e)}",
            where=where,
            hint="look at config.json",
        ) from e


def need_torch() -> None:
    """Raises InputError, with the command, when torch is not installed."""
    need("torch", "torch", where="--verify", instead="a CPU build of torch")


def _our_logits(params: Params, cfg: ModelConfig, rows: list[np.ndarray]) -> list[np.ndarray]:
    """[S, V] of each row, in fp32."""
    params = cast(Params, jax.tree.map(lambda a: a.astype(jnp.float32), params))
    results = []
    for ids in rows:
        tokens_BS = jnp.asarray(ids[None])
        positions_BS = jnp.arange(len(ids), dtype=jnp.int32)[None]
        hidden, _ = forward(
            params, tokens_BS, positions_BS, jnp.ones_like(tokens_BS), cfg, compute_dtype=jnp.float32
        )
        results.append(np.asarray(logits(params, hidden, cfg)[0]))
    return results


def _token_ids(folder: Path, vocab_size: int, prompts: Sequence[str]) -> list[np.ndarray]:
    if has_tokenizer(folder):
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder))
            rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
        except Exception as e:  # whatever a tokenizer class raises of files that it does not take
            raise WorkError(
                f"transformers cannot load the tokenizer: {first_line(e)}",
                where=str(folder),
                hint="look at tokenizer_config.json",
            ) from e
    else:
        rng = np.random.default_rng(0)
        rows = [rng.integers(0, vocab_size, 48) for _ in prompts]
    return [np.asarray(ids, np.int32) for ids in rows]
