"""The grouped-GEMM kernels: chosen by trial, refused with a reason, and right on an accelerator."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from xlam_jax import extras
from xlam_jax.errors import InputError
from xlam_jax.models.config import MoeConfig
from xlam_jax.models.experts import Experts, kernels, moe_ffn
from xlam_jax.models.routing import route


@pytest.fixture
def fresh_probe():
    kernels.probe.cache_clear()
    yield
    kernels.probe.cache_clear()


def test_a_kernel_that_computes_wrongly_is_not_used(fresh_probe, monkeypatch):
    right = kernels._weights
    monkeypatch.setattr(kernels, "_weights", lambda name, *args: 1.1 * right(name, *args))
    found = kernels.probe("cpu")
    assert found["lax", "rows"] == "" and "wrong by" in found["lax", "weights"]
    with pytest.raises(InputError, match="lax weights: wrong by"):
        kernels.choose_kernels(8)


def test_cuda_without_tokamax_says_what_to_install(fresh_probe, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokamax", None)
    monkeypatch.setattr(kernels.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="tokamax is not installed") as told:
        kernels.choose_kernels(8)
    assert "xlam-jax[kernels]" in told.value.hint
    assert all("lax" not in implementation for implementation, _ in kernels.probe("gpu"))


def test_the_probe_may_run_while_something_is_traced(fresh_probe):
    @jax.jit
    def traced(x):
        assert kernels.choose_kernels(8).for_rows == "lax"
        return x

    traced(jnp.ones(2))


def test_tokamax_on_the_cpu_is_right(fresh_probe):
    pytest.importorskip("tokamax")
    assert kernels.probe("cpu")["xla", "rows"] == kernels.probe("cpu")["xla", "weights"] == ""


def test_the_triton_kernels_lower_for_cuda(monkeypatch):
    triton = pytest.importorskip("tokamax._src.ops.ragged_dot.pallas_triton")
    # Only the question whether this machine has such a device is answered for it.
    monkeypatch.setattr(triton.PallasTritonRaggedDot, "supported_on", lambda self, device: True)
    device = AbstractDevice("NVIDIA H100 80GB HBM3", 132, "gpu")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    x, w, d = (jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((512, 256), (4, 256, 128), (512, 128)))
    sizes = jax.ShapeDtypeStruct((4,), jnp.int32)
    with jax.sharding.use_abstract_mesh(mesh):
        for fn, args in ((kernels._rows, (x, w, sizes)), (kernels._weights, (x, d, sizes))):
            traced = jax.jit(functools.partial(fn, "triton")).trace(*args)
            assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_the_triton_kernels_compute_right(monkeypatch):
    """Interpreted, which is slow and the same arithmetic; one of the groups is empty."""
    triton = pytest.importorskip("tokamax._src.ops.ragged_dot.pallas_triton")
    block = triton.block
    kernels._tokamax()
    monkeypatch.setattr(block, "pallas_call", functools.partial(block.pallas_call, interpret=True))
    monkeypatch.setattr(triton.PallasTritonRaggedDot, "supported_on", lambda self, device: True)
    assert kernels._try("triton", "rows") == kernels._try("triton", "weights") == ""


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["batched", "grouped"])
@pytest.mark.parametrize(("E", "K", "bias"), [(8, 2, 0.0), (8, 2, 6.0), (64, 6, 1.0)])
def test_backends_agree_on_an_accelerator(E, K, bias, backend):
    """bf16 output and gradients against the dense network, balanced and uneven."""
    if jax.default_backend() == "cpu":
        pytest.skip("no accelerator found by jax")
    D, F, cfg = 512, 256, MoeConfig(E, K, 256)
    keys = jax.random.split(jax.random.key(0), 5)
    x = jax.random.normal(keys[0], (4, 512, D), jnp.bfloat16).at[..., 0].set(1)
    router = (jax.random.normal(keys[1], (D, E)) / 8).at[0].set(bias * jnp.linspace(1, -1, E))
    shapes = (E, D, F), (E, D, F), (E, F, D)
    matrices = [
        jax.random.normal(k, s, jnp.bfloat16) / s[1] ** 0.5 for k, s in zip(keys[2:], shapes, strict=True)
    ]

    def loss(x, experts, backend):
        routing = route(x, router, cfg)
        y, stats = moe_ffn(x, routing, experts, cfg, backend=backend)
        return jnp.sin(y.astype(jnp.float32)).sum(), (y, stats)

    grad = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    (_, (y, stats)), grads = grad(x, Experts(*matrices), backend)
    (_, (right, _)), right_grads = grad(x, Experts(*matrices), "dense")
    assert stats["dropped"] == 0 and (bias < 6 or backend == "grouped" or stats["windows"] > 1)
    for a, b in zip(jax.tree.leaves((y, grads)), jax.tree.leaves((right, right_grads)), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.abs(a - b).max() <= 0.03 * np.abs(b).max()
