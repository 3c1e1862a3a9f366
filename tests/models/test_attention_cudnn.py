"""cuDNN without a GPU: the layout of documents, what is refused, and the program that is made for CUDA."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as jax_cudnn

from tests import tiny
from tests.models.attention_cases import run, square
from xlam_jax.models import decoder
from xlam_jax.models.attention import Facts, attend, cudnn, most_segments
from xlam_jax.models.attention.cudnn import cudnn_reason, documents, refuse_overfull
from xlam_jax.models.named import named_config
from xlam_jax.parallel.mesh import MeshConfig, make_mesh

SEGMENTS = [[1, 1, 2, 2, 2, 3, 0, 0], [5, 5, 5, 5, 5, 5, 5, 5], [1, 2, 3, 4, 5, 6, 7, 0]]


def test_documents_of_a_row():
    lengths, offsets = documents(jnp.asarray(SEGMENTS), 5)
    assert lengths.tolist() == [[2, 3, 1, 2, -1], [8, -1, -1, -1, -1], [1, 1, 1, 1, 1]]
    assert offsets.tolist() == [[0, 2, 5, 6, -1, -1], [0, -1, -1, -1, -1, -1], [0, 1, 2, 3, 4, -1]]
    whole = np.isfinite(refuse_overfull(jnp.ones((3, 8, 2)), jnp.asarray(SEGMENTS), 5)).all(axis=(1, 2))
    assert whole.tolist() == [True, True, False]
    assert most_segments(np.asarray(SEGMENTS)) == 8
    assert most_segments(np.asarray(SEGMENTS[:2])) == 4
    assert most_segments(np.zeros((2, 3, 1))) == 1


class FakeKernel:
    """Attention from what JAX hands to cuDNN, lengths and offsets alone, NaN wherever no document is.

    It stands where JAX's function stands, so what it is given must be all that cuDNN needs.
    """

    MaskType = jax_cudnn.MaskType

    def __init__(self):
        self.calls = []

    def dot_product_attention(
        self, q, k, v, bias, mask, q_len, kv_len, q_off, kv_off, *,
        scale, mask_type, qkv_layout, sliding_window_length,
    ):  # fmt: skip
        self.calls.append((q.shape, k.shape, v.shape))
        assert bias is None and mask is None
        assert mask_type == self.MaskType.PADDING_CAUSAL and qkv_layout == "BTNH"
        B, S, N, H = q.shape
        if q_off is None:
            begins, lengths = jnp.arange(B) * S, q_len
        else:
            # What JAX makes of them: all rows' documents in one list, offsets in elements.
            lengths, _, begins, _ = jax_cudnn._fix_seqlen_offsets(q_len, kv_len, q_off, kv_off, q, q)
            lengths, begins = lengths.flatten(), begins.flatten()[: lengths.size] // (N * H)
        at = jnp.arange(B * S)
        inside = (at >= begins[:, None]) & (at < (begins + lengths)[:, None])
        marks = (inside * (1 + jnp.arange(lengths.size))[:, None]).sum(axis=0).reshape(B, S)
        out = square(q, k, v, marks, sliding_window_length, scale)
        return jnp.where(marks[..., None, None] > 0, out, jnp.nan)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeKernel()
    monkeypatch.setattr(cudnn, "_private", lambda: (fake, ""))
    monkeypatch.setattr(cudnn, "_knows_key_heads", lambda: True)
    return fake


TWO_ROWS = [SEGMENTS[0], [4, 4, 4, 5, 5, 5, 5, 5]]  # documents behind the first of a later row


def arrays(N=4, K=2, H=8, J=8, segments=TWO_ROWS):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((N, H), (K, H), (K, J), (N, J))
    q, k, v, ct = (
        jax.random.normal(key, (len(segments), 8, *s)) for key, s in zip(keys, shapes, strict=True)
    )
    return q, k, v, jnp.asarray(segments, jnp.int32), ct


@pytest.mark.parametrize("window", [None, 2, 8, 30])
@pytest.mark.parametrize("J", [4, 8])
def test_arguments_describe_the_packed_batch(fake, window, J):
    case = arrays(J=J)
    ours = run(attend, *case, window=window, backend="cudnn", max_segments=4, scale=0.4)
    right = run(attend, *case, window=window, scale=0.4)
    for a, b in zip(ours, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert fake.calls[0] == ((2, 8, 4, 8), (2, 8, 2, 8), (2, 8, 2, 8))  # grouped keys stay grouped


def test_one_document_a_row_needs_no_offsets(fake):
    case = arrays(segments=SEGMENTS[1:2])
    ours, right = run(attend, *case, backend="cudnn", max_segments=1), run(attend, *case)
    np.testing.assert_allclose(ours[0], right[0], rtol=1e-5, atol=1e-6)


def test_a_row_with_too_many_documents_is_nan_and_never_wrong(fake):
    cfg = named_config("tiny-llama")
    tokens = jnp.ones((3, 8), jnp.int32)
    hidden, _ = decoder.forward(
        tiny.params(cfg), tokens, tokens, jnp.asarray(SEGMENTS), cfg, attention="cudnn", max_segments=5
    )
    assert np.isfinite(hidden[:2]).all()
    assert np.isnan(hidden[2]).all()


def test_keys_are_repeated_where_jax_counts_the_wrong_heads(fake, monkeypatch):
    monkeypatch.setattr(cudnn, "_knows_key_heads", lambda: False)
    case = arrays()
    ours, right = run(attend, *case, backend="cudnn"), run(attend, *case)
    assert fake.calls[0][1] == (2, 8, 4, 8)
    for a, b in zip(ours, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_heads_behind_the_offsets_are_looked_up_in_the_installed_jax():
    lengths, offsets = jnp.ones((1, 2), jnp.int32), jnp.asarray([[0, 1, 2]])
    q, k = jnp.zeros((1, 2, 4, 8)), jnp.zeros((1, 2, 2, 8))
    kv_offsets = jax_cudnn._fix_seqlen_offsets(lengths, lengths, offsets, offsets, q, k)[3]
    cudnn._knows_key_heads.cache_clear()
    assert jax.jit(lambda: cudnn._knows_key_heads())() == (int(kv_offsets[0, 1]) == 2 * 8)


# -- what is refused ----


def gpu(capability="9.0", platform="gpu", version="cuda 12090"):
    return SimpleNamespace(
        platform=platform, compute_capability=capability, client=SimpleNamespace(platform_version=version)
    )


FACTS = Facts(num_heads=32, num_kv_heads=8, head_dim=128, v_head_dim=128, seq_len=4096)


@pytest.mark.parametrize(
    ("changes", "device", "words"),
    [
        ({}, gpu(), ""),
        ({"head_dim": 192}, gpu(), ""),
        ({}, gpu("8.0"), "compute capability 9.0"),
        ({}, gpu("10.0"), ""),
        ({}, gpu(version="rocm 6"), "NVIDIA"),
        ({}, gpu(platform="cpu"), "this is cpu"),
        ({"dtype": jnp.float32}, gpu(), "not float32"),
        ({"head_dim": 100}, gpu(), "found 100"),
        ({"head_dim": 264}, gpu(), "found 264"),
        ({"v_head_dim": 136}, gpu(), "wider than keys"),
    ],
)
def test_reasons(changes, device, words, monkeypatch):
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 91000)
    reason = cudnn_reason(FACTS._replace(**changes), device)
    assert words in reason and bool(words) == bool(reason)


def test_reasons_that_lie_in_the_installation(monkeypatch):
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 90300)
    assert "too old" in cudnn_reason(FACTS, gpu())
    cudnn._private.cache_clear()
    monkeypatch.setattr(jax_cudnn, "dot_product_attention", lambda query, key, value: query)
    assert "lacks bias, mask" in cudnn_reason(FACTS, gpu())
    monkeypatch.undo()
    cudnn._private.cache_clear()
    assert cudnn._private() == (jax_cudnn, "")


# -- the program for CUDA, made on this machine ----


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(jax_cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(jax_cudnn, "check_compute_capability", lambda _: True)
    monkeypatch.setattr(jax_cudnn, "is_cuda_compute_capability_equal", lambda _: False)


B, S, SLOTS = 2, 384, 6


@pytest.mark.parametrize("sizes", [{}, {"data": 2, "context": 2, "tensor": 2}], ids=["one device", "mesh"])
@pytest.mark.parametrize(
    ("remat", "forward"), [("full", 2), ("names:qkv", 2), ("names:attn_out", 1), ("dots", 1)]
)
def test_the_forward_pass_is_not_computed_again_where_attention_is_kept(remat, forward, sizes, hopper):
    q = jax.ShapeDtypeStruct((B, S, 4, 64), jnp.bfloat16)
    seg = jax.ShapeDtypeStruct((B, S), jnp.int32)

    def loss(q, seg):
        def inner(q):
            out = attend(jnp.sin(q), q, q, seg, backend="cudnn", max_segments=SLOTS)
            return out.astype(jnp.float32)

        return jnp.sin(jax.checkpoint(inner, policy=decoder.remat_policy(remat))(q)).sum()

    with jax.set_mesh(make_mesh(MeshConfig(**sizes))):
        text = jax.jit(jax.grad(loss)).trace(q, seg).lower(lowering_platforms=("cuda",)).as_text()
    calls = re.findall(r"custom_call @(__cudnn\$\w+)", text)
    assert sorted(calls) == ["__cudnn$fmhaSoftmax"] * forward + ["__cudnn$fmhaSoftmaxBackward"]


def program(N, K, H, J, window, mesh=None):
    """StableHLO for CUDA of the output and all gradients."""
    shapes = [(B, S, N, H), (B, S, K, H), (B, S, K, J), (B, S, N, J)]
    args = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes]
    seg = jax.ShapeDtypeStruct((B, S), jnp.int32)

    def both(q, k, v, ct, seg):
        f = lambda q, k, v: attend(q, k, v, seg, window=window, backend="cudnn", max_segments=SLOTS)  # noqa: E731
        out, pull = jax.vjp(f, q, k, v)
        return out, *pull(ct)

    lower = lambda: jax.jit(both).trace(*args, seg).lower(lowering_platforms=("cuda",)).as_text()  # noqa: E731
    if mesh is None:
        return lower()
    with jax.set_mesh(mesh):
        return lower()


CASES = {
    "plain": (4, 4, 64, 64, None),
    "window": (4, 4, 64, 64, 100),
    "grouped": (4, 2, 64, 64, None),
    "mla": (4, 4, 192, 128, None),
}


@pytest.mark.parametrize("case", CASES)
def test_program_calls_cudnn_forward_and_backward(case, hopper):
    N, K, H, J, window = CASES[case]
    text = program(N, K, H, J, window)
    calls = re.findall(r"custom_call @(__cudnn\$\w+)", text)
    assert calls == ["__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"]
    assert text.count(f"sliding_window_length\\22: {window or 0}") == 2
    assert text.count(f"max_seg_per_batch\\22: {SLOTS}") == 2
    assert text.count("PADDING_CAUSAL") == 2
    # No tensor as large as the scores, and none of two dimensions of the length: no mask, no bias.
    for shape in re.findall(r"tensor<((?:\d+x)+)\w+>", text):
        sizes = [int(n) for n in shape.split("x") if n]
        assert sizes.count(S) < 2 and np.prod(sizes) < B * N * S * S, shape


def test_grouped_keys_stay_grouped_where_jax_allows(hopper):
    text = program(*CASES["grouped"])
    forward = next(line for line in text.splitlines() if "@__cudnn$fmhaSoftmax(" in line)
    keys = re.findall(r"tensor<2x384x(\d)x64xbf16>", forward.rsplit(":", 1)[1])[1]
    assert int(keys) == (2 if cudnn._knows_key_heads() else 4)


def test_program_over_a_mesh_splits_rows_and_heads(hopper):
    mesh = make_mesh(MeshConfig(data=2, context=2, tensor=2))
    text = program(4, 2, 64, 64, None, mesh)
    forward = next(line for line in text.splitlines() if "@__cudnn$fmhaSoftmax(" in line)
    # One row and one head of whole length on each of the eight devices: positions are regrouped by heads.
    assert "(tensor<1x384x1x64xbf16>, tensor<1x384x1x64xbf16>, tensor<1x384x1x64xbf16>" in forward
