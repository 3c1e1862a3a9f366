"""The forward pass against itself in another arrangement: packed, remat, unstacked, bf16, linen."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.cases import long_but
from xlam_jax.errors import InputError
from xlam_jax.models import decoder
from xlam_jax.models.blocks import attention_inputs
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.linen import Decoder, from_variables, to_variables
from xlam_jax.models.named import named_config
from xlam_jax.models.params import unstack
from xlam_jax.models.rope import rotate

LENGTHS = (11, 5, 13)
forward = jax.jit(decoder.forward, static_argnames=("cfg", "remat", "compute_dtype", "attention"))


@functools.cache
def model(name="tiny-llama", **changes):
    cfg = named_config(name).replace(**changes)
    params = tiny.params(cfg)
    # Matrices of 0.02 make the tiny model all but linear; larger ones give attention something to do.
    return cfg, jax.tree.map(lambda x: 6 * x if x.ndim == 3 else x, params)


def batch(cfg, B=2, S=24, seed=1):
    tokens = jax.random.randint(jax.random.key(seed), (B, S), 0, cfg.vocab_size)
    positions = jnp.broadcast_to(jnp.arange(S), (B, S))
    return tokens, positions, jnp.ones((B, S), jnp.int32)


def loss_of(cfg, tokens, positions, segments, **options):
    targets = jnp.roll(tokens, -1, axis=1)
    weights = (segments > 0) & (jnp.roll(segments, -1, axis=1) == segments)
    weights = weights.at[:, -1].set(False)

    def loss(params):
        hidden, _ = forward(params, tokens, positions, segments, cfg, **options)
        return chunked_cross_entropy(hidden, decoder.head_matrix(params), targets, weights, 8)[0]

    return loss


def close(a, b, rel):
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        assert np.abs(x - y).max() <= rel * max(np.abs(y).max(), 1e-6), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", long_but(["tiny-mistral"], ["tiny-llama-linear", "tiny-mistral"]))
def test_packed_equals_unpacked(name):
    cfg, params = model(name)
    texts = [batch(cfg, 1, n, seed=n)[0][0] for n in LENGTHS]
    width = 32  # three zeros of padding at the end
    pad = [0] * (width - sum(LENGTHS))
    tokens = jnp.concatenate([*texts, jnp.array(pad, jnp.int32)])[None]
    positions = jnp.array([[i for n in (*LENGTHS, len(pad)) for i in range(n)]])
    segments = jnp.array([[s for s, n in enumerate((*LENGTHS, len(pad)), 1) for _ in range(n)]]) % (
        len(LENGTHS) + 1
    )

    packed, grads = jax.jit(jax.value_and_grad(loss_of(cfg, tokens, positions, segments)))(params)
    alone = jax.jit(lambda params, *data: jax.value_and_grad(loss_of(cfg, *data))(params))
    single = [alone(params, *_alone(text)) for text in texts]
    np.testing.assert_allclose(packed, sum(loss for loss, _ in single), rtol=1e-5)
    close(grads, jax.tree.map(lambda *g: sum(g), *(g for _, g in single)), 2e-5)


def _alone(text):
    width = max(LENGTHS)
    real = jnp.arange(width)[None] < text.shape[0]
    return jnp.pad(text, (0, width - text.shape[0]))[None], jnp.arange(width)[None], real.astype(jnp.int32)


def test_a_wrong_mask_would_be_noticed():
    cfg, params = model()
    tokens, positions, segments = batch(cfg)
    split = segments.at[:, 12:].set(2)
    same = forward(params, tokens, positions, segments, cfg)[0]
    other = forward(params, tokens, positions, split, cfg)[0]
    np.testing.assert_array_equal(same[:, :12], other[:, :12])
    assert float(jnp.abs(same[:, 12:] - other[:, 12:]).max()) > 1e-3


@functools.cache
def gradients(remat):
    cfg, params = model("tiny-llama-tied")
    return jax.jit(jax.value_and_grad(loss_of(cfg, *batch(cfg), remat=remat)))(params)


@pytest.mark.parametrize(
    "remat", ["full", "dots", "names:attn_out", "names:qkv, attn_out, mlp_hidden", "names:mlp_in"]
)
def test_remat_changes_no_gradient(remat):
    (loss, grads), (again, same) = gradients("none"), gradients(remat)
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    close(same, grads, 1e-5)


def test_remat_policies_keep_what_they_say():
    cfg, params = model(num_layers=6)
    data = batch(cfg, 4, 64)

    def held(remat):
        # What the backward pass is handed: the vjp's residuals, parameters among them.
        _, pull = jax.vjp(loss_of(cfg, *data, remat=remat), params)
        return sum(x.nbytes for x in jax.tree.leaves(pull))

    full, names, dots, none = (held(r) for r in ("full", "names:attn_out", "dots", "none"))
    assert full < names < dots < none


@pytest.mark.parametrize("remat", ["some", "names:", "names:attn_out,nothing"])
def test_unknown_remat_is_refused(remat):
    cfg, params = model()
    with pytest.raises(InputError, match="none, full, dots"):
        forward(params, *batch(cfg), cfg, remat=remat)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-mistral"])
def test_unstacked_layers_give_the_same_logits(name):
    cfg, params = model(name)
    data = batch(cfg)
    a = forward(params, *data, cfg)[0]
    b = forward(unstack(params), *data, cfg)[0]
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_rotation_depends_on_distance_only():
    cfg, params = model()
    tokens, positions, segments = batch(cfg)
    a = forward(params, tokens, positions, segments, cfg)[0]
    b = forward(params, tokens, positions + 100, segments, cfg)[0]
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    q, k, _ = attention_inputs(unstack(params).layers[0], decoder.embed(params, tokens), positions, cfg)
    assert q.shape == (2, 24, cfg.num_heads, cfg.head_dim) and k.shape == (
        2,
        24,
        cfg.num_kv_heads,
        cfg.head_dim,
    )


def test_bf16_compute_is_finite_and_near_fp32():
    cfg, params = model()
    data = batch(cfg)
    loss, grads = jax.jit(jax.value_and_grad(loss_of(cfg, *data)))(params)
    half, half_grads = jax.jit(jax.value_and_grad(loss_of(cfg, *data, compute_dtype=jnp.bfloat16)))(params)
    assert {g.dtype for g in jax.tree.leaves(half_grads)} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(half, loss, rtol=0.01)
    for a, b in zip(jax.tree.leaves(half_grads), jax.tree.leaves(grads), strict=True):
        cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
        assert jnp.isfinite(a).all() and cosine > 0.99
    hidden, _ = forward(params, *data, cfg, compute_dtype=jnp.bfloat16)
    assert hidden.dtype == jnp.bfloat16 and decoder.logits(params, hidden, cfg).dtype == jnp.float32


def test_rows_of_padding_are_finite():
    cfg, params = model("tiny-mistral")
    tokens, positions, segments = batch(cfg)
    loss, grads = jax.jit(jax.value_and_grad(loss_of(cfg, tokens, positions, segments.at[0].set(0))))(params)
    assert all(jnp.isfinite(x).all() for x in (loss, *jax.tree.leaves(grads)))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-tied"])
def test_linen_module_has_equal_logits(name):
    cfg, params = model(name)
    tokens, positions, segments = batch(cfg)
    hidden, _ = forward(params, tokens, positions, segments, cfg)
    module = Decoder(cfg)
    np.testing.assert_array_equal(
        jax.jit(module.apply)(to_variables(params), tokens), decoder.logits(params, hidden, cfg)
    )
    drawn = jax.jit(module.init)(jax.random.key(5), tokens)
    axes = nn.get_partition_spec(drawn)["params"]["layers.mlp.gate"]
    assert tuple(axes) == ("layers", "embed", "mlp")
    again = to_variables(from_variables(drawn, cfg))
    np.testing.assert_array_equal(jax.jit(module.apply)(drawn, tokens), jax.jit(module.apply)(again, tokens))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_in_bfloat16_is_that_of_float32_rounded(interleaved):
    keys = jax.random.split(jax.random.key(0), 3)
    x, ct = (jax.random.normal(key, (2, 16, 3, 8), jnp.bfloat16) for key in keys[:2])
    angle = jax.random.normal(keys[2], (2, 16, 4))

    def pulled(x, ct):
        out, pull = jax.vjp(lambda x: rotate(x, jnp.cos(angle), jnp.sin(angle), interleaved), x)
        return out, pull(ct)[0]

    wide = pulled(x.astype(jnp.float32), ct.astype(jnp.float32))
    for ours, exact in zip(pulled(x, ct), wide, strict=True):
        np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))
