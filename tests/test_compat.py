"""Private names of JAX stand in one file, and what it looks for is there."""

import re
from pathlib import Path

import pytest
from jax._src import compiler

from xlam_jax import compat

ROOT = Path(__file__).parents[1]


def test_nothing_else_imports_private_names():
    using = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "xlam_jax").rglob("*.py")
        if re.search(r"(from|import) jax\._src|jaxlib\._", path.read_text())
    }
    assert using == {"xlam_jax/compat.py"}


def test_this_jax_compiles_where_it_is_looked_for(monkeypatch):
    monkeypatch.setattr(compiler, "compile_or_get_cached", lambda backend, program: (backend, program))

    def wrap(compiles):
        return lambda backend, program: compiles(backend, program)[::-1]

    assert compat.wrap_compile(wrap) and compat.wrap_compile(wrap)
    assert compiler.compile_or_get_cached("cpu", "program") == ("program", "cpu")  # wrapped once
    monkeypatch.delattr(compiler, "compile_or_get_cached")
    assert not compat.wrap_compile(wrap)


def test_this_jax_has_the_packed_layout_and_a_missing_parameter_is_named():
    assert compat.cudnn_attention(["q_offsets", "kv_offsets"]).MaskType.PADDING_CAUSAL
    with pytest.raises(ImportError, match="lacks no_such of cuDNN attention"):
        compat.cudnn_attention(["q_offsets", "no_such"])


def test_cudnn_is_told_of_a_device_that_is_not_here():
    from jax._src.cudnn import fused_attention_stablehlo as module

    before = module.check_compute_capability
    with compat.cudnn_of_target(91000, "10.0"):
        assert module.check_cudnn_version() == 91000
        assert module.check_compute_capability("9.0") and not module.check_compute_capability("10.3")
        assert not module.is_cuda_compute_capability_equal("9.0")
    assert module.check_compute_capability is before
