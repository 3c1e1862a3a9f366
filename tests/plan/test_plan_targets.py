"""Devices that are compiled for and are not here: what their compilers are told, and who asks for the platform."""

import importlib.util
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.errors import InputError, WorkError
from xlam_jax.models.attention import own_backend
from xlam_jax.models.experts.kernels import choose_kernels
from xlam_jax.parallel import target as parallel_target
from xlam_jax.parallel.exchange.ragged import _need_accelerator
from xlam_jax.parallel.hardware import hardware
from xlam_jax.plan.targets import cudnn_of, names, nodes_of, target, target_text, topology_name


@pytest.mark.parametrize(
    ("device", "topology", "devices", "name"),
    [
        ("h100", None, 1, "1x1x1"),
        ("h100", None, 8, "1x1x8"),
        ("h200", None, 64, "8x1x8"),
        ("b200", "2x8", 16, "2x1x8"),
        ("tpu-v5p", None, 1, "v5p:2x2x1"),
        ("tpu-v5p", None, 8, "v5p:2x2x2"),
        ("tpu-v6e", "4x4", 16, "v6e:4x4"),
    ],
)
def test_topologies(device, topology, devices, name):
    assert topology_name(target(device), topology, devices) == name
    assert nodes_of(target(device), name) == (int(name[0]) if device[0] in "hb" else 1)


@pytest.mark.parametrize(
    ("device", "topology", "devices", "words"),
    [
        ("h100", "16", 16, "nodes x devices"),
        ("h100", "2x2x2", 8, "nodes x devices"),
        ("h100", "1x8", 16, "holds 8 devices, the mesh 16"),
        ("tpu-v5p", "2-2", 4, "torus"),
        ("tpu-v5p", None, 4096, "no topology of 4096"),
    ],
)
def test_topologies_that_are_none(device, topology, devices, words):
    with pytest.raises(InputError) as e:
        topology_name(target(device), topology, devices)
    assert words in str(e.value)


@pytest.mark.parametrize("name", names())
def test_each_has_its_hardware(name):
    asked = target(name)
    hw = hardware(asked.hardware)
    assert cudnn_of(asked)[0] >= 90600 and float(cudnn_of(asked)[1]) >= (
        9.0 if asked.platform == "gpu" else 0
    )
    if asked.platform == "gpu":
        text, info = target_text(asked), asked.values["gpu_device_info"]
        assert text.count("{") == text.count("}") and f"core_count: {info['core_count']}\n" in text
        # The data sheet's in decimal, the device's own in binary and a little less than what is soldered on.
        assert info["memory_bandwidth"] == hw.bandwidth
        assert info["device_memory_size"] == pytest.approx(hw.memory, rel=0.08)


def test_unknown_device():
    got = CliRunner().invoke(app, ["plan", "--model", "tiny-llama", "--compile-for", "h10"])
    assert isinstance(got.exception, InputError) and got.exception.hint == "h100"


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is not None, reason="the compiler is installed here"
)
def test_a_missing_compiler_says_what_to_install():
    got = CliRunner().invoke(app, ["plan", "--model", "tiny-llama", "--rows", "4", "--compile-for", "h100"])
    assert isinstance(got.exception, WorkError) and "xlam-jax[compile-h100]" in got.exception.hint


def test_who_asks_for_the_platform_is_told_of_the_target():
    assert parallel_target.platform() == "cpu" and parallel_target.is_here() and own_backend() == "xla"
    with pytest.raises(InputError, match="ragged needs a GPU or TPU"):
        _need_accelerator()
    with parallel_target.compiling_for(SimpleNamespace(platform="cuda")):
        assert parallel_target.platform() == "gpu" and own_backend() == "cudnn"
        assert choose_kernels(8).for_rows == "triton"  # untried: there is nothing to try it on
        _need_accelerator()
    assert parallel_target.platform() == "cpu"
