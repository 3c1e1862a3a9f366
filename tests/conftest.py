"""Settings that must stand before jax or torch is imported: eight fake devices, no network, quick compilation.

Nearly all the time of these tests would be XLA's, for programs that run once on tiny shapes. So no program is
polished, and equal programs are compiled once for all workers of a run and the processes that tests start: the
settings are environment variables, which those inherit. A test whose subject is the compiled program itself
(its memory, its collectives, its speed) is marked `optimised` and gets XLA's usual compilation.
"""

import gc
import os
import shutil
import signal
import sys
import tempfile

import pytest

from xlam_jax.parallel.xla_flags import profile, profile_flags

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests start some hundred processes, each of which would translate the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
_PROFILES = ("fake-devices", "quick-compilation")
for _name, _value in (item for name in _PROFILES for item in profile(name).env.items()):
    os.environ.setdefault(_name, _value)
_FLAGS = ("--xla_force_host_platform_device_count=8", *map(profile_flags, _PROFILES))
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *_FLAGS)).strip()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch sizes its pool from this when it is first imported

# `nohup` and a shell's `&` have signals ignored, and whatever tests start would ignore them too. A handler is not
# inherited: children begin with the system's defaults.
for _signal in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, lambda number, frame: None)

if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(1)

# Tracing makes objects by the million, and looking for circles among them took a tenth of a whole run.
gc.set_threshold(20_000, 50, 100)

# Name a folder in JAX_COMPILATION_CACHE_DIR to keep the compiled programs from one run to the next.
_OWN_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWN_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="xlam-compiled-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
_UNPOLISHED = "JAX_DISABLE_MOST_OPTIMIZATIONS"


def pytest_unconfigure():
    # A worker finds its controller's folder in the environment and does not own it.
    if _OWN_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Long proofs have half an hour, for the machine may be busy."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item, nextitem):
    """A worker that keeps the programs of every room grows to 6 GB, and all it does grows slower."""
    if nextitem is not None and nextitem.path.parent != item.path.parent and "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Around a test with its fixtures: XLA's usual compilation for what is marked `optimised`, `gpu` or `real`.

    Real weights cost more in running than in compiling, and the programs of an accelerator are what its tests are
    about. Fusion emitters are chosen once for a process, so only those that the test starts have them again.
    """
    if not {"optimised", "gpu", "real"}.intersection(marker.name for marker in item.iter_markers()):
        return (yield)
    import jax

    key = _UNPOLISHED.lower()
    before, environment = jax.config.values[key], dict(os.environ)
    jax.config.update(key, False)
    os.environ.pop(_UNPOLISHED, None)
    os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace(profile_flags("quick-compilation"), "").strip()
    try:
        return (yield)
    finally:
        jax.config.update(key, before)
        for name in (_UNPOLISHED, "XLA_FLAGS"):
            if name in environment:
                os.environ[name] = environment[name]


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; skips, with what to install, where it or playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine: install one or name it in CHROMIUM")
    with sync_api.sync_playwright() as p:
        made = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()
