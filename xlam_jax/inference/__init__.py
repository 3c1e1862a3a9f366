"""Generation: key/value cache, sampling, constrained decoding, and the engine over them."""

from xlam_jax.inference.engine import Engine, Generation, folder_codec
from xlam_jax.inference.sampler import Sampling, sample

__all__ = ["Engine", "Generation", "Sampling", "folder_codec", "sample"]
