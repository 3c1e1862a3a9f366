"""Named tensors in Hugging Face orientation from any source, and whether they are those of a config."""

from __future__ import annotations

import re
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.params import Params, ParamSpec
from xlam_jax.models.spec import hf_count, hf_entries, param_to_hf, path_name
from xlam_jax.weights.safetensors_io import TensorInfo

_OTHER_MODEL = "is this a checkpoint of another model? config.json and weights must come from one release"
# Buffers that old transformers versions saved beside the weights; they are recomputed from the config.
_BUFFERS = (".rotary_emb.inv_freq", ".masked_bias")
# Published DeepSeek-V3 checkpoints and transformers keep it in float32 beside bfloat16 weights: a rounded
# bias chooses other experts.
_FLOAT32 = ("e_score_correction_bias",)
# Transposing this many rows at a time keeps them in the cache: many times the speed of numpy's own order.
_STRIP_ROWS = 16
_PACKED = 8  # elements of 2 bytes in 16


class Tensors(Protocol):
    """Named tensors in Hugging Face orientation that can be read one by one, by several threads."""

    infos: dict[str, TensorInfo]

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """The tensor, or the part of it that `index` cuts out."""
        ...

    def path_of(self, name: str) -> str:
        """The file that holds a tensor."""
        ...


class ParamsTensors:
    """The tensors of parameters in memory, stacked and on the devices of this process."""

    def __init__(self, params: Params, cfg: ModelConfig):
        flat, _ = jax.tree_util.tree_flatten_with_path(params)
        self._arrays = {path_name(path): leaf for path, leaf in flat}
        self._entries = hf_entries(cfg)
        self.infos = {
            n: TensorInfo(n, e.shape, np.dtype(self._arrays[e.path].dtype)) for n, e in self._entries.items()
        }

    def get(self, name: str, index: tuple[slice, ...] | None = None) -> np.ndarray:
        """See `Tensors`."""
        entry = self._entries[name]
        tensor = param_to_hf(entry.spec, np.asarray(self._arrays[entry.path][entry.index]))
        return tensor if index is None else tensor[index]

    def path_of(self, name: str) -> str:
        """See `Tensors`."""
        return "parameters in memory"


def kept_dtype(spec: ParamSpec, stored: np.dtype, wanted: np.dtype | None) -> np.dtype:
    """The dtype of a parameter that is stored as `stored` where `wanted` is asked for (None: as stored)."""
    if spec.hf.endswith(_FLOAT32):
        return np.dtype(np.float32)
    return np.dtype(stored if wanted is None else wanted)


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """`array` as it is (float16, bfloat16 or float32, C-contiguous).

    Raises:
      InputError: a NaN or an infinity in it.
    """
    # On the bits: a largest exponent is what all of them have, and integers compare several times faster.
    kind, most = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}[array.itemsize]
    if array.dtype.name == "bfloat16":
        most = 0x7F80
    bits = array.reshape(-1).view(kind)
    step, mask = 2**17, kind(2 ** (8 * array.itemsize - 1) - 1)
    for start in range(0, bits.size, step):
        if (bits[start : start + step] & mask).max(initial=0) >= most:
            hint = "take a checkpoint from before the training diverged"
            if array.dtype == np.float16:
                hint += ", or --dtype bfloat16 if only float16 is too narrow for it"
            raise InputError(f"tensor {name!r} holds NaN or infinity in {array.dtype}", where=name, hint=hint)
    return array


def refuse_float64(name: str, dtype: np.dtype) -> None:
    """Raises InputError for a type that nothing here is written in."""
    if dtype == np.float64:
        raise InputError(
            f"tensor {name!r} is float64, which is not written", where=name, hint="--dtype float32 rounds it"
        )


def leaf_dtypes(tensors: Tensors, cfg: ModelConfig, wanted: np.dtype | None) -> dict[str, np.dtype]:
    """Dotted path -> dtype of the stacked array; the widest where the tensors of a leaf differ."""
    dtypes: dict[str, np.dtype] = {}
    for name, entry in hf_entries(cfg).items():
        dtype = kept_dtype(entry.spec, tensors.infos[name].dtype, wanted)
        refuse_float64(name, dtype)
        dtypes[entry.path] = np.dtype(jnp.promote_types(dtypes.get(entry.path, dtype), dtype))
    return dtypes


def contiguous(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A C-contiguous array of `dtype`; a copy only where it must be."""
    with np.errstate(over="ignore"):  # what is infinite then, `check_finite` tells
        if array.ndim != 2 or array.flags.c_contiguous:
            return np.ascontiguousarray(array, dtype)
        out = np.empty(array.shape, dtype)
        copy_strips(out.T, array.T)
        return out


def copy_strips(dst: np.ndarray, src: np.ndarray) -> None:
    """dst[:] = src, fast where one of them is a transposed view; casts."""
    turned = dst.ndim == 2 and dst.strides[0] == dst.itemsize
    if turned and dst.dtype == src.dtype and dst.itemsize == 2 and len(dst) % _PACKED == 0:
        _copy_packed(dst, src)
        return
    for start in range(0, src.shape[0], _STRIP_ROWS):
        dst[start : start + _STRIP_ROWS] = src[start : start + _STRIP_ROWS]


def _copy_packed(dst: np.ndarray, src: np.ndarray) -> None:
    # Numpy moves an element of two bytes in the time of one of sixteen, so the second of the two passes here
    # costs an eighth of the first. The types here are only names of two and of sixteen bytes.
    moved, src = dst.T.view(np.complex128), src.view(np.uint16)
    for start in range(0, len(src), _STRIP_ROWS * 4):
        strip = src[start : start + _STRIP_ROWS * 4]
        units = np.empty((len(strip) // _PACKED, strip.shape[1], _PACKED), np.uint16)
        for k in range(_PACKED):
            units[:, :, k] = strip[k::_PACKED]
        at = start // _PACKED
        moved[:, at : at + len(units)] = units.view(np.complex128)[:, :, 0].T


def check_tensors(tensors: Tensors, cfg: ModelConfig) -> None:
    """Raises InputError unless these are exactly the tensors, in the shapes, that `cfg` says."""
    where, count = tensors.path_of(next(iter(tensors.infos))), hf_count(cfg)
    if count > 2 * len(tensors.infos) + 1000:  # listing them by name could take forever
        raise InputError(
            f"config.json says {cfg.num_layers} layers, which make {count} tensors; there are {len(tensors.infos)}",
            where=where,
            hint=_OTHER_MODEL,
        )
    entries = hf_entries(cfg)
    extra = [n for n in tensors.infos if n not in entries and not _ignored(n, tensors, cfg)]
    missing = [n for n in entries if n not in tensors.infos]
    if missing == ["lm_head.weight"] and not extra:
        raise InputError(
            "tensor 'lm_head.weight' is missing and config.json does not tie it to the embeddings",
            where=where,
            hint='if the model shares them, set "tie_word_embeddings": true in config.json',
        )
    if missing or extra:
        parts = [
            f"{len(names)} {label} (such as {names[0]!r})"
            for names, label in ((missing, "missing"), (extra, "not known to this model type"))
            if names
        ]
        raise InputError(
            f"the tensors do not fit config.json: {', '.join(parts)}",
            where=where,
            hint=_OTHER_MODEL,
        )
    if cfg.tie_embeddings and "lm_head.weight" in tensors.infos:
        _check_tied(tensors)
    wrong = [n for n, e in entries.items() if tensors.infos[n].shape != e.shape]
    if wrong:
        shape, said = tensors.infos[wrong[0]].shape, entries[wrong[0]].shape
        raise InputError(
            f"{len(wrong)} tensors do not have the config's shapes: {wrong[0]!r} is {shape}, not {said}",
            where=tensors.path_of(wrong[0]),
            hint=_OTHER_MODEL,
        )


def _check_tied(tensors: Tensors) -> None:
    """Raises InputError unless the head that is stored is the embedding table again."""
    head, table = "lm_head.weight", "model.embed_tokens.weight"
    shape = tensors.infos[head].shape
    if shape == tensors.infos[table].shape:
        step = max(1, 2**22 // max(1, shape[-1]))
        cuts = [(slice(i, i + step), slice(None)) for i in range(0, shape[0], step)]
        if all(np.array_equal(tensors.get(head, cut), tensors.get(table, cut)) for cut in cuts):
            return
    raise InputError(
        f"config.json ties {head} to the embeddings, and the one that is stored differs from them",
        where=tensors.path_of(head),
        hint='transformers 5 takes the stored one: "tie_word_embeddings": false; or remove the tensor',
    )


def _ignored(name: str, tensors: Tensors, cfg: ModelConfig) -> bool:
    if name.endswith(_BUFFERS) or (cfg.tie_embeddings and name == "lm_head.weight"):
        return True
    # DeepSeek-V3 is released with a layer that predicts the token after next, above the model's own.
    layer = re.match(r"model\.layers\.(\d+)\.", name)
    return bool(
        cfg.family == "deepseek_v3"
        and layer
        and int(layer[1]) >= cfg.num_layers
        and f"model.layers.{layer[1]}.eh_proj.weight" in tensors.infos
    )
