"""`xlam` as a person types it, and the folders that strangers have."""

import json

import numpy as np
from safetensors.numpy import save_file
from typer.testing import CliRunner

from xlam_jax.cli.main import app
from xlam_jax.errors import XlamError


def xlam(*words):
    """The output of a command that must succeed, on one line; what it raises comes out."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


def refused(*words):
    """What is said of bad input."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert isinstance(result.exception, XlamError), result.output + repr(result.exception)
    assert result.exception.exit_code == 2
    assert all(len(line) < 400 for line in str(result.exception).splitlines())
    return str(result.exception)


def adapter(folder, model, a=(4, 32), b=(32, 4), dtype=np.float32, **changes):
    """A PEFT folder on the first q_proj of `model`."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **changes}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(model)}))
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora"
    tensors = {f"{stem}_A.weight": np.ones(a, dtype), f"{stem}_B.weight": np.ones(b, dtype)} if a else {}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
