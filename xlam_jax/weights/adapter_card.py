"""The model card of a PEFT folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlam_jax import __version__
from xlam_jax.files import read_object
from xlam_jax.weights.card import (
    base_name,
    citation_section,
    data_section,
    licence_section,
    page,
    table,
    training_section,
    yaml_head,
)
from xlam_jax.weights.peft_config import CONFIG


def is_adapter(folder: Path) -> bool:
    """Whether this is a PEFT folder."""
    return (folder / CONFIG).is_file()


def adapter_card(folder: Path, facts: Mapping[str, Any]) -> str:
    """README.md of a PEFT folder that is otherwise complete."""
    config, base = read_object(folder / CONFIG), facts["base"]
    modules = config.get("target_modules")  # names, or a pattern
    named = base["model"] or "BASE"
    module = re.sub(r"[^\w.-]+", "-", facts["name"])
    about = {
        "rank": config.get("r"),
        "alpha": config.get("lora_alpha"),
        "modules": ", ".join(map(str, modules)) if isinstance(modules, list) else modules,
        "base model": base_name(facts),
        "base weights (XXH3-128)": base["weights_xxh3_128"] and f"`{base['weights_xxh3_128']}`",
    }
    use = (
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{named}"), ".")\n```\n\n'
        f"With vLLM: `vllm serve {named} --enable-lora --lora-modules {module}=.`\n\n"
        "Prompts are those of the training: the chat template is in the merged release (`xlam convert to-hf RUN DIR`)."
    )
    sections = {
        "Adapters": table(about),
        "Licence": licence_section(folder, facts),
        "Training": training_section(facts),
        "Data": data_section(facts),
        "Evaluation": "Unknown: not measured by this card; measure the merged release.",
        "Use": use,
        "Limits": "- The adapters fit the base weights named above, and no others.\n"
        "- A call is text that a model wrote: check it against the tool's schema before it is executed.",
        "Citation": citation_section(facts),
    }
    words = f"LoRA adapters for {base_name(facts)}, trained to call functions with xlam-jax {__version__}."
    return page(yaml_head(facts, "adapter", "peft"), facts["name"], words, sections)
