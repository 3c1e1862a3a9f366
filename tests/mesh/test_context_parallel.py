"""Rows split over a context axis of eight fake devices against one device: attention and a whole model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.models.attention_cases import assert_near, inputs, run, square
from xlam_jax.errors import InputError
from xlam_jax.models import decoder
from xlam_jax.models.attention import CONTEXT_BACKENDS, attend, blocked
from xlam_jax.models.named import named_config
from xlam_jax.models.spec import shardings
from xlam_jax.parallel.mesh import MeshConfig, make_mesh
from xlam_jax.parallel.rules import batch_sharding

MESHES = [
    {"context": 8},
    {"context": 4, "tensor": 2},
    {"context": 2, "tensor": 2, "data": 2},
    {"context": 2, "fsdp": 2, "expert": 2},
]


def under(sizes, case, **options):
    """The result of `attend` on arrays that lie over the mesh, as in training."""
    with jax.set_mesh(make_mesh(MeshConfig(**sizes))):
        return run(attend, *case, **options)


def name(value):
    return "x".join(f"{k}{v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize("backend", CONTEXT_BACKENDS)
@pytest.mark.parametrize(
    ("sizes", "window"),
    [(MESHES[0], None), (MESHES[0], 6), (MESHES[1], 19), (MESHES[2], None), (MESHES[2], 6), (MESHES[3], 19)],
    ids=name,
)
def test_equals_the_whole_square(backend, sizes, window):
    case = inputs(32, B=4, N=8, K=2)
    right = run(square, *case, window=window)
    assert_near(under(sizes, case, window=window, backend=backend), right)


@pytest.mark.parametrize("backend", CONTEXT_BACKENDS)
@pytest.mark.parametrize(
    "sizes",
    [{"B": 3, "N": 4, "K": 4, "H": 12, "J": 8}, {"B": 3, "N": 4, "K": 1}],
    ids=["mla", "one key head"],
)
def test_widths_and_numbers_that_do_not_divide(backend, sizes):
    # Three rows do not lie over two replicas, one key head not over two tensor shards.
    case = inputs(24, **sizes)
    ours = under({"context": 2, "tensor": 2, "data": 2}, case, backend=backend, scale=0.4, window=10)
    assert_near(ours, run(square, *case, scale=0.4, window=10))


@pytest.mark.parametrize("backend", ["xla", "context_ring"])
def test_loops_over_blocks(backend, monkeypatch):
    monkeypatch.setattr(blocked, "MIN_BLOCK", 3)
    case = inputs(32, N=2, K=1)
    assert_near(under({"context": 4}, case, backend=backend), run(square, *case))


@pytest.mark.parametrize("backend", CONTEXT_BACKENDS)
def test_a_document_does_not_feel_another_across_shards(backend):
    q, k, v, seg, ct = inputs(32, N=8, K=2)  # documents meet at 10, inside a shard
    other = [x.at[:, 10:].multiply(-3.0) for x in (q, k, v)]
    before = under({"context": 8}, (q, k, v, seg, ct), backend=backend)
    after = under({"context": 8}, (*other, seg, ct.at[:, 10:].add(7.0)), backend=backend)
    for a, b in zip(before, after, strict=True):
        assert (a[0, :10] == b[0, :10]).all()
        assert (a[0, 10:] != b[0, 10:]).any()


def test_a_window_ends_the_ring_early_and_cuts_the_gathered_keys():
    q, k, v, seg, _ = inputs(32, N=2, K=1, B=1)

    def jaxpr(**options):
        with jax.set_mesh(make_mesh(MeshConfig(context=8))):
            return str(jax.make_jaxpr(lambda *a: attend(*a, **options))(q, k, v, seg))

    assert "length=7" in jaxpr(backend="context_ring")
    assert "length=2" in jaxpr(backend="context_ring", window=9)
    assert "dynamic_slice[" in jaxpr(window=9)


def test_heads_that_do_not_divide_are_refused():
    case = inputs(32, N=6, K=2)
    with pytest.raises(InputError, match=r"6 heads do not divide by context=4 x tensor=1"):
        under({"context": 4}, case, backend="context_heads")


def test_a_row_that_does_not_divide_lies_whole():
    case = inputs(30, N=4, K=2)
    assert_near(under({"context": 4}, case), run(square, *case))


@pytest.mark.parametrize(
    ("attention", "sizes"),
    [
        ("xla", MESHES[1]),
        pytest.param("context_ring", MESHES[2], marks=pytest.mark.slow),
        ("context_heads", {"context": 4, "fsdp": 2}),
    ],
    ids=name,
)
def test_model_equals_one_device(attention, sizes):
    cfg = named_config("tiny-mistral")
    params = jax.tree.map(lambda x: 6 * x if x.ndim == 3 else x, tiny.params(cfg))
    B, S = 4, 32
    tokens = jax.random.randint(jax.random.key(1), (B, S), 0, cfg.vocab_size)
    segments = jnp.where(jnp.arange(S) < 13, 1, 2) * jnp.ones((B, 1), jnp.int32)
    positions = jnp.where(jnp.arange(S) < 13, jnp.arange(S), jnp.arange(S) - 13) * jnp.ones((B, 1), jnp.int32)
    weights = jax.random.normal(jax.random.key(2), (B, S, cfg.hidden_size))

    def loss(params, tokens, positions, segments, attention):
        hidden, _ = decoder.forward(
            params, tokens, positions, segments, cfg, remat="names:attn_out", attention=attention
        )
        return (hidden * weights).mean()

    step = jax.jit(jax.value_and_grad(loss), static_argnames="attention")
    right_loss, right = step(params, tokens, positions, segments, attention="xla")
    mesh = make_mesh(MeshConfig(**sizes))
    with jax.set_mesh(mesh):
        batch = jax.device_put((tokens, positions, segments), batch_sharding(mesh))
        assert batch[0].sharding.shard_shape((B, S))[1] == S // sizes["context"]
        ours_loss, ours = step(jax.device_put(params, shardings(cfg, mesh)), *batch, attention=attention)
    # Terms of either sign nearly cancel, so the order of the sum shows in the digits that are left.
    np.testing.assert_allclose(ours_loss, right_loss, rtol=1e-5, atol=1e-6)
    for (path, a), b in zip(
        jax.tree_util.tree_flatten_with_path(ours)[0], jax.tree.leaves(right), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), jax.tree_util.keystr(path)
