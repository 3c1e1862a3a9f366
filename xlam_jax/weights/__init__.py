"""Models in and out: Hugging Face folders, GGUF files, training checkpoints, and the proof that they agree."""

from xlam_jax.weights.base_model import find_smollm2
from xlam_jax.weights.checksums import check_files
from xlam_jax.weights.gguf import load_gguf
from xlam_jax.weights.hf_in import load_hf, read_config
from xlam_jax.weights.hf_out import HfOptions, SaveReport, read_xlam_json, save_hf, weights_digest
from xlam_jax.weights.source import ModelFolder, inspect, load_model, load_params_item
from xlam_jax.weights.stream import convert_gguf, open_model, to_hf
from xlam_jax.weights.verify import Agreement, Verified, verify_export, verify_hf

__all__ = [
    "Agreement",
    "HfOptions",
    "ModelFolder",
    "SaveReport",
    "Verified",
    "check_files",
    "convert_gguf",
    "find_smollm2",
    "inspect",
    "load_gguf",
    "load_hf",
    "load_model",
    "load_params_item",
    "open_model",
    "read_config",
    "read_xlam_json",
    "save_hf",
    "to_hf",
    "verify_export",
    "verify_hf",
    "weights_digest",
]
