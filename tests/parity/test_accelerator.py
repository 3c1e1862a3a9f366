"""On an accelerator: the same forward pass and gradients as on its host's CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.models import decoder
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import init


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tiny-llama-linear", "tiny-mistral"])
def test_loss_and_gradients_equal_the_cpu(name):
    if jax.default_backend() == "cpu":
        pytest.skip("no accelerator found by jax")
    cfg = named_config(name)
    tokens = np.random.default_rng(0).integers(0, cfg.vocab_size, (2, 40))
    positions = np.broadcast_to(np.arange(40), (2, 40))
    segments = np.ones((2, 40), np.int32)

    def loss(params):
        hidden, _ = decoder.forward(params, jnp.asarray(tokens), jnp.asarray(positions), segments, cfg)
        total, weight, _ = chunked_cross_entropy(
            hidden, decoder.head_matrix(params), jnp.asarray(tokens), jnp.ones((2, 40))
        )
        return total / weight

    def on(device):
        with jax.default_device(device), jax.default_matmul_precision("float32"):
            return jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(loss))(init(cfg, jax.random.key(0))))

    here, there = on(jax.devices("cpu")[0]), on(jax.devices()[0])
    for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
