"""xlam-jax: train, evaluate and release models that call functions, on JAX."""

__version__ = "0.1.0"
