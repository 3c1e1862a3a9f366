"""Chunked cross-entropy against the dense computation: values, gradients, and what is never held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xlam_jax.models.cross_entropy import chunked_cross_entropy

B, S, D, V = 3, 20, 16, 50


def dense(hidden, head, targets, weights):
    logits = (hidden @ head).astype(jnp.float32)
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return (nll * weights).sum(), ((logits.argmax(-1) == targets) * weights).sum()


@pytest.fixture(scope="module")
def case():
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (B, S, D)), jax.random.normal(keys[1], (D, V))
    targets = jax.random.randint(keys[2], (B, S), 0, V)
    # Uneven rows, a row without any weight, and weights other than 0 and 1.
    weights = jax.random.uniform(keys[3], (B, S)) * jnp.array([[1.0], [0.0], [1.0]]) * (jnp.arange(S) > 8)
    weights = weights.at[2, :5].set(1.0)
    # Give the arg-max a chance to be right.
    targets = jnp.where(jnp.arange(S) % 3 == 0, (hidden @ head).argmax(-1), targets)
    return hidden, head, targets, weights


@pytest.mark.parametrize("chunk", [1, 7, 20, 256])
def test_value_and_gradients(case, chunk):
    hidden, head, targets, weights = case

    def ours(hidden, head):
        loss, weight, metrics = chunked_cross_entropy(hidden, head, targets, weights, chunk)
        return 0.5 * loss, (weight, metrics["correct_sum"])

    run = jax.jit(jax.value_and_grad(ours, argnums=(0, 1), has_aux=True))
    (half, (weight, correct)), grads = run(hidden, head)
    (right, right_correct), right_grads = jax.value_and_grad(dense, argnums=(0, 1), has_aux=True)(*case)
    plain = chunked_cross_entropy(*case, chunk)[0]
    np.testing.assert_allclose(2 * half, right, rtol=1e-6)
    np.testing.assert_allclose(plain, right, rtol=1e-6)
    np.testing.assert_allclose(weight, weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(correct, right_correct, rtol=1e-6)
    for a, b in zip(grads, right_grads, strict=True):
        np.testing.assert_allclose(2 * a, b, rtol=1e-5, atol=1e-5)


def test_a_tied_head_collects_both_gradients(case):
    _, head, targets, weights = case
    table, tokens = head.T, jnp.roll(targets, 1)

    def ours(table):
        return chunked_cross_entropy(table[tokens], table.T, targets, weights, 8)[0]

    def right(table):
        return dense(table[tokens], table.T, targets, weights)[0]

    np.testing.assert_allclose(jax.grad(ours)(table), jax.grad(right)(table), rtol=1e-5, atol=1e-5)


def test_no_weight_at_all_gives_zeros(case):
    hidden, head, targets, _ = case
    loss, grads = jax.value_and_grad(
        lambda h, w: chunked_cross_entropy(h, w, targets, jnp.zeros((B, S)), 8)[0], argnums=(0, 1)
    )(hidden, head)
    assert loss == 0 and all((g == 0).all() for g in grads)


def test_large_logits_stay_finite(case):
    hidden, head, targets, weights = case
    loss, grad = jax.value_and_grad(lambda h: chunked_cross_entropy(h, head, targets, weights)[0])(
        1e3 * hidden
    )
    np.testing.assert_allclose(loss, dense(1e3 * hidden, head, targets, weights)[0], rtol=1e-5)
    assert jnp.isfinite(grad).all()


def test_bf16_hidden(case):
    hidden, head, targets, weights = case
    half = hidden.astype(jnp.bfloat16)
    loss, grads = jax.value_and_grad(
        lambda h, w: chunked_cross_entropy(h, w, targets, weights, 8)[0], argnums=(0, 1)
    )(half, head)
    assert loss.dtype == jnp.float32 and grads[0].dtype == jnp.bfloat16 and grads[1].dtype == jnp.float32
    np.testing.assert_allclose(loss, dense(hidden, head, targets, weights)[0], rtol=0.02)


def sizes(jaxpr):
    """Element counts of every intermediate of a jaxpr, those inside loops and rules too."""
    for eqn in jaxpr.eqns:
        yield from (v.aval.size for v in eqn.outvars if hasattr(v.aval, "size"))
        for value in eqn.params.values():
            for item in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)


@pytest.mark.optimised
@pytest.mark.parametrize("f", [chunked_cross_entropy, dense])
def test_the_full_logits_never_exist(case, f):
    hidden, head, targets, weights = case
    args = (jnp.tile(hidden, (1, 16, 1)), head, jnp.tile(targets, (1, 16)), jnp.tile(weights, (1, 16)))
    options = {"chunk": 16} if f is chunked_cross_entropy else {}
    grad = jax.grad(lambda h, w: f(h, w, *args[2:], **options)[0], argnums=(0, 1))
    largest = max(sizes(jax.make_jaxpr(grad)(*args[:2]).jaxpr))
    full = B * S * 16 * V
    if f is dense:  # the walk does see such a buffer where there is one
        assert largest >= full
    else:
        assert largest <= max(B * 16 * V, B * S * 16 * D)
        assert jax.jit(grad).lower(*args[:2]).compile().memory_analysis().temp_size_in_bytes < 4 * full
