"""Settings that must stand before jax or torch is imported: eight fake devices, no network, two threads."""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
_FLAG = "--xla_force_host_platform_device_count=8"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
os.environ.setdefault("OMP_NUM_THREADS", "2")  # torch sizes its pool from this when it is first imported

if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(2)
