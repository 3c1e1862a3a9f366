"""On an accelerator: the same forward pass and gradients as on its host's CPU, and its attention as `xla`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.models import decoder
from xlam_jax.models.attention import Facts, attend, reason_against
from xlam_jax.models.attention.backends import BY_PLATFORM
from xlam_jax.models.attention.probe import disagreement, kernel_of
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import init


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["tiny-llama-linear", "tiny-mistral", "tiny-mixtral", "tiny-qwen3-moe", "tiny-deepseek-v3"]
)
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


ATTENTION = {
    "plain": {"num_heads": 8, "num_kv_heads": 8},
    "grouped": {},
    "window": {"window": 100},
    "deepseek": {"num_heads": 8, "num_kv_heads": 8, "head_dim": 192},
}


@pytest.mark.gpu
@pytest.mark.parametrize("max_segments", [8, None])
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_of_the_accelerator_equals_xla(case, max_segments):
    """Packed documents, output and all gradients, bfloat16 against float32."""
    name = BY_PLATFORM.get(jax.local_devices()[0].platform)
    if name is None:
        pytest.skip("no accelerator found by jax")
    facts = Facts(num_heads=8, num_kv_heads=2, head_dim=128, v_head_dim=128, seq_len=512)
    facts = facts._replace(**ATTENTION[case])
    if reason := reason_against(name, facts):
        pytest.skip(reason)
    assert disagreement(kernel_of(name, facts, max_segments), facts) == ""


@pytest.mark.gpu
def test_documents_of_the_accelerator_do_not_feel_each_other():
    name = BY_PLATFORM.get(jax.local_devices()[0].platform)
    if name is None:
        pytest.skip("no accelerator found by jax")
    facts = Facts(num_heads=4, num_kv_heads=2, head_dim=64, v_head_dim=64, seq_len=512)
    if reason := reason_against(name, facts):
        pytest.skip(reason)
    random = np.random.default_rng(0)
    q, k, v = (jnp.asarray(random.standard_normal((1, 512, n, 64)), jnp.bfloat16) for n in (4, 2, 2))
    segments = jnp.where(jnp.arange(512) < 200, 1, 2)[None]
    run = jax.jit(lambda q, k, v: attend(q, k, v, segments, backend=name))
    before = run(q, k, v)[0, :200]
    after = run(*(x.at[:, 200:].multiply(-3) for x in (q, k, v)))[0, :200]
    assert bool((before == after).all())
