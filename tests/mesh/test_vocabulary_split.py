"""Embedding and cross-entropy on every kind of mesh: the values of one device, and what they move."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.cases import long_but
from xlam_jax.models.cross_entropy import chunked_cross_entropy
from xlam_jax.models.logprobs import token_logprobs
from xlam_jax.parallel.collectives import collectives_under_cond, count_collectives
from xlam_jax.parallel.embedding import look_up, split_of
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.parallel.rules import ShardingRules

B, S, D, V = 8, 12, 16, 48
MESHES = [
    {"fsdp": 8},
    {"data": 8},
    {"data": 2, "fsdp": 4},
    {"fsdp": 2, "expert": 4},
    {"data": 2, "fsdp": 2, "expert": 2},
    {"fsdp": 4, "tensor": 2},
    {"data": 2, "tensor": 4},
    {"fsdp": 2, "expert": 2, "tensor": 2},
    {"fsdp": 2, "context": 4},
    {"data": 2, "context": 2, "tensor": 2},
]
UNSPLIT = [m for m in MESHES if "tensor" not in m]
# Every axis and every pair of axes of the list above is among these; the long proofs go through all of it.
QUICK = [MESHES[i] for i in (0, 4, 8, 9)]
CASES = [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MESHES]


def name(sizes: dict[str, int]) -> str:
    return ",".join(f"{axis}={n}" for axis, n in sizes.items())


def arrays(vocab: int = V, rows: int = B):
    keys = jax.random.split(jax.random.key(0), 5)
    hidden = jax.random.normal(keys[0], (rows, S, D))
    table = jax.random.normal(keys[1], (vocab, D))
    targets = jax.random.randint(keys[2], (rows, S), 0, vocab)
    # Weight in a few rows and positions only, so that devices have different numbers of chunks, some none.
    weights = (
        jax.random.uniform(keys[3], (rows, S)) * (jnp.arange(S) >= 7) * (jnp.arange(rows) % 3 > 0)[:, None]
    )
    weights = weights.at[4].set(1.0)
    return hidden, table, targets, weights


def placed(mesh, hidden, table, targets, weights):
    batch, length = ("data", "fsdp", "expert"), "context"
    specs = (P(batch, length, None), P("tensor", "fsdp"), P(batch, length), P(batch, length))
    given = (hidden, table, targets, weights)
    return tuple(jax.device_put(x, NamedSharding(mesh, s)) for x, s in zip(given, specs, strict=True))


def loss(hidden, table, targets, weights, chunk=3):
    found, weight, metrics = chunked_cross_entropy(hidden, table.T, targets, weights, chunk)
    return 0.5 * found, (weight, metrics["correct_sum"])


GRADS = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


def looked_up(table, tokens, factors):
    return (look_up(table, tokens) * factors).sum()


@pytest.mark.parametrize("sizes", CASES, ids=name)
def test_cross_entropy_is_that_of_one_device(sizes):
    given = arrays()
    expected = jax.jit(GRADS)(*given)
    mesh = make_mesh(MeshConfig(**sizes))
    with jax.set_mesh(mesh):
        split = split_of((V, D), (B, S))
        assert split is not None and set(split.axes) == set(sizes)
        inputs = placed(mesh, *given)
        found = jax.jit(GRADS)(*inputs)
        only_hidden = jax.jit(jax.grad(lambda h, *rest: loss(h, *rest)[0]))(*inputs)
        forward = jax.jit(loss)(*inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
    np.testing.assert_allclose(only_hidden, expected[1][0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(forward[0], expected[0][0], rtol=1e-5)
    np.testing.assert_allclose(forward[1][1], expected[0][1][1], rtol=1e-5)


@pytest.mark.parametrize("sizes", CASES, ids=name)
def test_embedding_is_that_of_one_device(sizes):
    factors, table, tokens, _ = arrays()
    expected = jax.value_and_grad(looked_up)(table, tokens, factors)
    mesh = make_mesh(MeshConfig(**sizes))
    with jax.set_mesh(mesh):
        factors, table, tokens, _ = placed(mesh, factors, table, tokens, factors[..., 0])
        exact = jax.jit(look_up)(table, tokens)
        found = jax.jit(jax.value_and_grad(looked_up))(table, tokens, factors)
    np.testing.assert_array_equal(exact, np.asarray(table)[np.asarray(tokens)])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def scored(hidden, table, targets, weights):
    return (token_logprobs(hidden, table.T, targets, 3) * weights).sum()


@pytest.mark.parametrize("sizes", CASES, ids=name)
def test_log_probabilities_are_those_of_one_device(sizes):
    given = arrays()
    expected = jax.jit(token_logprobs, static_argnums=3)(given[0], given[1].T, given[2], 3)
    gradients = jax.jit(jax.grad(scored, argnums=(0, 1)))(*given)
    mesh = make_mesh(MeshConfig(**sizes))
    with jax.set_mesh(mesh):
        inputs = placed(mesh, *given)
        found = jax.jit(lambda h, t, y: token_logprobs(h, t.T, y, 3))(*inputs[:3])
        differentiated = jax.jit(jax.grad(scored, argnums=(0, 1)))(*inputs)
        jaxpr = str(jax.make_jaxpr(jax.grad(scored, argnums=(0, 1)))(*given))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), differentiated, gradients
    )
    # Once for the loop, and its gradient once behind it.
    width = int("fsdp" in sizes)
    assert len(re.findall(r"all_gather\[", jaxpr)) == len(re.findall(r"reduce_scatter\[", jaxpr)) == width


@pytest.mark.parametrize(("vocab", "rows"), [(V + 1, B), (V, 3)], ids=["vocabulary", "rows"])
def test_what_does_not_divide_is_left_to_the_compiler(vocab, rows):
    given = arrays(vocab, rows)
    expected = jax.jit(GRADS)(*given)
    mesh = make_mesh(MeshConfig(fsdp=4, tensor=2))
    with jax.set_mesh(mesh):
        assert split_of((vocab, D), (rows, S)) is None
        found = jax.jit(GRADS)(*given)
        rows_found = look_up(given[1], given[2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
    np.testing.assert_array_equal(rows_found, given[1][given[2]])


def test_rules_of_another_kind_are_left_to_the_compiler():
    with jax.set_mesh(make_mesh(MeshConfig(fsdp=4, tensor=2))):
        assert split_of((V, D), (B, S), ShardingRules(embed="tensor", vocab=None)) is None


@pytest.mark.parametrize(
    "sizes", long_but(MESHES[:1] + MESHES[3:4], [m for m in MESHES if "tensor" not in m]), ids=name
)
def test_the_loop_over_chunks_moves_nothing(sizes):
    with jax.set_mesh(make_mesh(MeshConfig(**sizes))):
        jaxpr = jax.make_jaxpr(GRADS)(*arrays())
    assert "while" in str(jaxpr) and collectives_under_cond(jaxpr) == []
    # The head comes once and its gradient leaves once.
    width = int("fsdp" in sizes)
    assert (
        len(re.findall(r"all_gather\[", str(jaxpr)))
        == len(re.findall(r"reduce_scatter\[", str(jaxpr)))
        == width
    )


def test_a_split_vocabulary_has_its_rounds_agreed_on_by_every_device():
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        jaxpr = jax.make_jaxpr(GRADS)(*arrays())
    found = collectives_under_cond(jaxpr)
    # The largest logit, the sum of exponentials with the target's logit; no product is among them.
    assert {line.rsplit(" ", 1)[1] for line in found} == {"pmax", "psum"}
    assert "pmax[axes=('tensor', 'data', 'fsdp')" in str(jaxpr)


@pytest.mark.optimised
@pytest.mark.parametrize(
    "sizes",
    [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MESHES if m.get("fsdp", 8) < 8],
    ids=name,
)
def test_no_device_holds_the_activations_of_all(sizes):
    factors, table, tokens, _ = arrays()
    mesh = make_mesh(MeshConfig(**sizes))
    with jax.set_mesh(mesh):
        factors, table, tokens, _ = placed(mesh, factors, table, tokens, factors[..., 0])
        text = jax.jit(jax.value_and_grad(looked_up)).lower(table, tokens, factors).compile().as_text()
    assert count_collectives(text).get("all-to-all", 0) == 2  # there, and back
    shapes = re.findall(r"= \(?f32\[([\d,]+)\]\S* (?:all-gather|all-reduce|collective-permute)", text)
    largest = max((math.prod(map(int, shape.split(","))) for shape in shapes), default=0)
    # What one device has of the table's gradient, or of its peers' rows in its own columns.
    ways = 8 // sizes.get("tensor", 1)
    own = max(V // sizes.get("tensor", 1) * D // sizes["fsdp"], B * S * D // ways)
    assert largest <= own
