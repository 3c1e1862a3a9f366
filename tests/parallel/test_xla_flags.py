"""Flag profiles: what is printed starts a process, what is left out would have ended it."""

import os
import warnings

import pytest

from xlam_jax.cli.train import use_flag_profile
from xlam_jax.errors import InputError
from xlam_jax.parallel.xla_flags import (
    _key,
    _table,
    accepts,
    profile_flags,
    profiles,
    refusal,
    step_options,
)


def quiet(name, version=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return profile_flags(name, version)


def test_every_flag_of_a_profile_is_in_the_table():
    for profile in profiles().values():
        assert set(profile.flags) <= set(_table()["flags"]), profile.name


def test_this_jaxlib_accepts_what_is_printed():
    flags = " ".join(quiet(name) for name in profiles())
    assert flags and accepts(flags)


def test_a_refused_flag_would_end_the_process():
    never = next(flag for flag in _table()["flags"] if refusal(flag) == "unknown to every measured version")
    assert not accepts(f"--{never}=true")


def test_versions_decide():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        old = profile_flags("h100-pipeline", "0.10.2")
    assert len(told) == 3 and all("dropped --xla_gpu_pipeline_" in str(w.message) for w in told)
    assert "xla_gpu_pipeline_all_gather" not in old and "latency_hiding" in old
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = profile_flags("h100-pipeline", "0.12.0.1")
    assert "--xla_gpu_pipeline_all_gather=on" in new
    assert refusal("xla_gpu_fused_attention_use_cudnn_rng", "0.10.2") is None
    assert refusal("xla_gpu_fused_attention_use_cudnn_rng", "0.11.2") == "known until 0.10.2"
    assert refusal("xla_no_such_flag", "0.11.2") == "never measured"
    assert _key("0.12.0.1") > _key("0.11.2") > _key("0.10.2") == _key("0.10.2.dev3")


def test_options_of_every_step_are_known_and_for_gpus_alone():
    options = step_options("gpu")
    assert options == {"xla_gpu_enable_dynamic_slice_fusion": False} and not step_options("cpu")
    assert all(accepts(f"--{flag}={str(value).lower()}") for flag, value in options.items())


def test_unknown_profile_names_the_nearest():
    with pytest.raises(InputError) as e:
        profile_flags("h10")
    assert e.value.hint == "h100"


@pytest.mark.slow
def test_the_table_holds_for_every_flag_on_this_version():
    wrong = {}
    for flag in _table()["flags"]:
        value = {"xla_disable_hlo_passes": "rematerialization"}.get(flag, "")
        usual = next((p.flags[flag] for p in profiles().values() if flag in p.flags), value)
        said = refusal(flag) is None
        # A value of the wrong type ends the process as well; one of these is right for a known flag.
        real = any(
            accepts(f"--{flag}={v}") for v in dict.fromkeys([usual, "true", "1", "0.5", "/tmp/x", "on", ""])
        )
        if said != real:
            wrong[flag] = (said, real)
    assert not wrong


def test_fake_devices_get_their_profile_unless_told_otherwise(monkeypatch):
    flag = "xla_cpu_enable_concurrency_optimized_scheduler"
    monkeypatch.delenv("XLAM_XLA_PROFILE", raising=False)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    use_flag_profile()
    assert os.environ["XLA_FLAGS"] == f"--{flag}=false --xla_force_host_platform_device_count=8"
    assert os.environ["PJRT_NPROC"] == "128"
    # XLA takes the last one, so what the user says wins.
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 --{flag}=true")
    use_flag_profile()
    assert os.environ["XLA_FLAGS"].split()[::2] == [f"--{flag}=false", f"--{flag}=true"]
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_onednn=false")
    use_flag_profile()
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_use_onednn=false"
