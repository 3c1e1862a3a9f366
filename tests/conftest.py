"""Settings that must stand before jax or torch is imported: eight fake devices, no network, two threads."""

import os
import shutil
import sys

import pytest

from xlam_jax.bench.xla_flags import profile, profile_flags

os.environ.setdefault("HF_HUB_OFFLINE", "1")
for _name, _value in profile("fake-devices").env.items():
    os.environ.setdefault(_name, _value)
_FLAGS = f"--xla_force_host_platform_device_count=8 {profile_flags('fake-devices')}"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
os.environ.setdefault("OMP_NUM_THREADS", "2")  # torch sizes its pool from this when it is first imported

if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(2)


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
