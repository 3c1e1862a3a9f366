"""The model card: README.md, made of provenance.json and of the files beside it.

Every number stands in a file of the folder or in a ledger that provenance.json was made from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from xlam_jax import __version__
from xlam_jax.files import read_object
from xlam_jax.format.codec import Codec, get_codec
from xlam_jax.format.record import Record, Step, Tool, ToolCall
from xlam_jax.format.tools import openai_view
from xlam_jax.format.vllm_plugin import parser_name
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import count_active_params, count_params
from xlam_jax.weights.base_prompt import rendered
from xlam_jax.weights.carried import BASE_README, PROVENANCE, README
from xlam_jax.weights.evaluations import model_index, score_table
from xlam_jax.weights.generation import stop_ids
from xlam_jax.weights.hf_in import read_config
from xlam_jax.weights.hf_out import read_xlam_json
from xlam_jax.weights.licences import Licence
from xlam_jax.weights.provenance import parts
from xlam_jax.weights.tokenizer_files import TEMPLATE, has_tokenizer

_PAPERS = """\
@article{zhang2024xlam,
  title = {xLAM: A Family of Large Action Models to Empower AI Agent Systems},
  author = {Zhang, Jianguo and Lan, Tian and Zhu, Ming and others},
  journal = {arXiv preprint arXiv:2409.03215},
  year = {2024}
}"""
_TOOL = Tool(
    "get_weather",
    "The weather in a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Its name."}},
        "required": ["city"],
    },
)
_STEP = Step(tool_calls=(ToolCall("get_weather", {"city": "Paris"}),))
EXAMPLE = Record("example", "What is the weather in Paris?", (_TOOL,), (_STEP,))


def model_card(folder: Path, facts: Mapping[str, Any]) -> str:
    """The card of a folder of a whole model."""
    cfg, about = read_config(folder), read_xlam_json(folder)
    codec = get_codec(**about["codec"]) if about.get("codec") else None
    sections = {
        "Model": _model(folder, cfg, codec, facts),
        "Licence": licence_section(folder, facts),
        "Training": training_section(facts),
        "Data": data_section(facts),
        "Evaluation": score_table(facts["evaluations"]),
        "Prompt format": _prompt(folder, codec),
        "Use": _usage(folder, codec),
        "Limits": _limits(cfg, codec, facts),
        "Provenance": _provenance(folder, about, facts),
        "Citation": citation_section(facts),
    }
    return page(_head(folder, facts), facts["name"], summary(facts), sections)


def page(head: Mapping[str, Any], title: str, words: str, sections: Mapping[str, str]) -> str:
    """A card as Markdown.

    Args:
      head: the hub's YAML.
      words: below the title.
      sections: heading -> Markdown, in their order.
    """
    front = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True, width=110)
    body = "\n\n".join(f"## {name}\n\n{text.strip()}" for name, text in sections.items())
    return f"---\n{front}---\n\n# {inline(title)}\n\n{words}\n\n{body}\n"


def summary(facts: Mapping[str, Any]) -> str:
    """What the model is, in a sentence or two."""
    base, training = base_name(facts), facts["training"]
    if training is None:
        made = inline(facts.get("made") or "")
        return f"{base}, converted by xlam-jax {__version__}: not trained here. {made}".strip()
    how = "adapters (LoRA), merged" if training["config"].get("lora") else "fine-tuned"
    return f"{base}, {how}, to call functions; made with xlam-jax {__version__}."


def base_name(facts: Mapping[str, Any]) -> str:
    """The base model as it is called: on the hub, by itself, or by its folder."""
    base = facts["base"]
    if base["model"]:
        return f"[{inline(base['model'])}](https://huggingface.co/{quote(base['model'])})"
    return code(base["name"] or base["folder"])


def inline(text: str) -> str:
    """A name as Markdown shows it, whatever signs it has: on one line, in a cell of a table too."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A name as a span of code, which no backtick in it ends and no pipe divides."""
    text = " ".join(text.split()).replace("|", "\\|")
    ticks = "`" * (_longest(text) + 1)
    gap = " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{ticks}{gap}{text}{gap}{ticks}"


def _longest(text: str) -> int:
    """How many backticks follow each other in a text."""
    return max((len(run) for run in re.findall("`+", text)), default=0)


def yaml_head(facts: Mapping[str, Any], relation: str, library: str) -> dict[str, Any]:
    """The hub's keys that every card has; a key that nothing is known for is left out."""
    licence = Licence(facts["license"]["name"], facts["license"].get("link", ""))
    base, hub = facts["base"], "https://huggingface.co/datasets/"
    sources = (facts["data"] or {}).get("sources", ())
    datasets = sorted({s["url"].removeprefix(hub) for s in sources if (s["url"] or "").startswith(hub)})
    head = {
        **licence.card(),
        "base_model": [base["model"]] if base["model"] else None,
        "base_model_relation": relation if base["model"] and relation else None,
        "datasets": datasets,
        "language": base["language"],
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": ["function-calling", "tool-use", "xlam-jax"],
    }
    return {key: value for key, value in head.items() if value}


def _head(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    head = yaml_head(facts, "finetune" if facts["training"] else "", "transformers")
    if head.get("license") == "other" and "license_link" not in head:
        files = sorted(p.name for p in folder.glob("LICEN[CS]E*"))
        head["license_link"] = files[0] if files else README
    index = model_index(facts["name"], facts["evaluations"])
    return {**head, **({"model-index": index} if index else {})}


def table(rows: Mapping[str, Any]) -> str:
    """Two columns; what is None or empty is unknown."""
    lines = [f"| {k} | {'unknown' if v is None or v == '' else v} |" for k, v in rows.items()]
    return "\n".join(("| | |", "|---|---|", *lines))


def _model(folder: Path, cfg: ModelConfig, codec: Codec | None, facts: Mapping[str, Any]) -> str:
    total, active = count_params(cfg), count_active_params(cfg)
    values = read_object(folder / "config.json")  # of anybody: transformers 4 says torch_dtype
    kind = (values.get("architectures") or [cfg.family])[0]
    dtype = values.get("dtype") or values.get("torch_dtype") or "unknown type"
    trained = (facts["data"] or {}).get("seq_len")
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    experts = f", {cfg.moe.experts_per_token} of {cfg.moe.num_experts} experts a token" if cfg.moe else ""
    stops = [str(i) for i in stop_ids(folder)]
    return table({
        "architecture": f"{kind}, {cfg.num_layers} layers, width {cfg.hidden_size}{experts}",
        "parameters": f"{_count(total)} ({total:,}), {_count(active)} ({active:,}) active for a token",
        "context": f"{cfg.max_position_embeddings:,} positions"
        + (f"; trained here on packed rows of {trained:,} tokens" if trained else ""),
        "weights": f"{dtype}, {len(files)} safetensors file{'s' * (len(files) > 1)}",
        "vocabulary": f"{cfg.vocab_size:,} rows",
        "call format": f"{codec.call_format}, chat template {codec.template}" if codec else None,
        "stop tokens": ", ".join(stops) or None,
        "base model": base_name(facts) + (f" at {facts['base']['revision']}" if facts["base"]["revision"] else ""),
        "language": inline(", ".join(facts["base"]["language"] or [])) or None,
    })  # fmt: skip


def _count(n: int) -> str:
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if n >= size:
            return f"{n / size:.1f} {letter}"
    return str(n)


def licence_section(folder: Path, facts: Mapping[str, Any]) -> str:
    """The licence of the release beside those of what it was made of."""
    settled = facts["license"]
    why = "named by who released it" if settled.get("named") else "the strictest of its parts"
    text = f"**{inline(settled['name'])}** ({why}). Read the licences of the parts:"
    lines = [f"| {inline(p.what)} | {inline(p.licence.name)} | {p.licence.kind} |" for p in parts(facts)]
    body = "\n".join((text, "", "| part | licence | kind |", "|---|---|---|", *lines))
    legal = [
        p.name
        for p in sorted(folder.iterdir())
        if p.name.upper().startswith(("LICEN", "NOTICE", "USE_POLICY"))
    ]
    return body + (f"\n\nCarried from the base model: {', '.join(legal)}." if legal else "")


def training_section(facts: Mapping[str, Any]) -> str:
    training = facts["training"]
    if training is None:
        return "None here."
    config, git = training["config"], training["git"] or {}
    batch, optim, lora = (config.get(key) or {} for key in ("batch", "optim", "lora"))
    objective, mesh = config.get("objective") or {}, config.get("mesh") or {}
    axes = " x ".join(f"{axis} {n}" for axis, n in mesh.items() if isinstance(n, int) and n not in (0, 1))
    shown = table({
        "objective": objective.get("kind"),
        "steps": f"{training['step']} of {training['total_steps'] or 'unknown'}",
        "begun": training["started"],
        "batch": f"{batch['rows']} packed rows" if batch.get("rows") else f"about {batch.get('samples')} samples",
        "optimizer": ", ".join(f"{k} {v}" for k, v in optim.items() if k in ("name", "lr", "schedule")) or None,
        "adapters": f"rank {lora.get('rank')}, alpha {lora.get('alpha')}" if lora else "none",
        "last loss": _number(training["loss"]),
        "last held-out loss": _number(training["eval_loss"]),
        "devices": f"{training['versions'].get('devices', 'unknown')}{f', mesh {axes}' if axes else ''}",
        "xlam-jax": training["versions"].get("xlam-jax"),
        "commit": f"{git['commit']}{', changed since' if git.get('dirty') else ''}" if git else None,
    })  # fmt: skip
    text = yaml.safe_dump(config, sort_keys=False, width=110).strip() if config else "unknown"
    return f"{shown}\n\n<details><summary>The whole configuration</summary>\n\n{fenced(text, 'yaml')}\n\n</details>"


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def data_section(facts: Mapping[str, Any]) -> str:
    data = facts["data"]
    if data is None:
        return "None here." if facts["training"] is None else "Unknown: the run has no data manifest."
    lines = []
    for source in data["sources"]:
        rows = ", ".join(f"{inline(name)} ({n})" for name, n in source["licences"].items())
        lines.append(f"| {inline(source['name'])} | {source['rows']} | {rows} | {source['url'] or ''} |")
    counts = ", ".join(
        f"{data[k]} {k.replace('_', ' ')}" for k in ("records", "tokens", "target_tokens") if data[k]
    )
    return "\n".join((
        f"{counts}, in {data['rows']} packed rows; fingerprint `{data['fingerprint']}`.", "",
        "| source | rows | licences (rows) | published at |", "|---|---:|---|---|", *lines,
    ))  # fmt: skip


def _prompt(folder: Path, codec: Codec | None) -> str:
    if codec is None:
        return _base_prompt(folder)
    prompt, text = codec.prompt(EXAMPLE), codec.render(EXAMPLE).text
    return (
        "`apply_chat_template` writes it (`chat_template.jinja`). A prompt, and the answer that ends it:\n\n"
        f"{fenced(prompt)}\n\n{fenced(text.removeprefix(prompt))}"
    )


def _base_prompt(folder: Path) -> str:
    """By the base model's own chat template: what it makes of calls is not known here."""
    if not (folder / TEMPLATE).is_file():
        return "Unknown: the folder holds no chat template."
    told = f"That of the base model (`{TEMPLATE}`)"
    text, why = rendered(folder, [{"role": "user", "content": EXAMPLE.query}], [openai_view(_TOOL)])
    if why:
        return f"{told}; an example could not be rendered: {why}."
    return f"{told}. A prompt:\n\n{fenced(text)}"


def fenced(text: str, language: str = "text") -> str:
    """A block of a text, which may hold fences itself."""
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _usage(folder: Path, codec: Codec | None) -> str:
    if not has_tokenizer(folder):
        return "The folder holds no tokenizer: take that of the base model."
    call = json.dumps([openai_view(_TOOL)], indent=2)
    # A Mistral tokenizer file would have vLLM write prompts in Mistral's own format.
    mode = (
        " --tokenizer-mode hf"
        if list(folder.glob("tekken.json")) + list(folder.glob("tokenizer.model.v*"))
        else ""
    )
    tools = (
        f" \\\n  --enable-auto-tool-choice --tool-parser-plugin tool_parser.py --tool-call-parser {parser_name(codec)}"
        if codec
        else ""
    )
    return (
        "With transformers, in this folder:\n\n```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
        'model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")\n'
        f'messages = [{{"role": "user", "content": "{EXAMPLE.query}"}}]\n'
        f"tools = {call}\n"
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, tools=tools, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n)\n'
        "answer = model.generate(**inputs, max_new_tokens=256, do_sample=False)\n"
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :]))\n```\n\n'
        f"With vLLM, in this folder:\n\n```text\nvllm serve .{mode}{tools}\n```"
    )


def _limits(cfg: ModelConfig, codec: Codec | None, facts: Mapping[str, Any]) -> str:
    lines = []
    if not facts["evaluations"]:
        lines.append("Nobody has measured how often its calls are right: no report was given to this card.")
    seen = (facts["data"] or {}).get("seq_len")
    if seen and seen < cfg.max_position_embeddings:
        lines.append(
            f"It saw at most {seen:,} tokens at once here, of {cfg.max_position_embeddings:,} positions."
        )
    if codec:
        lines.append(f"It was trained to write calls as {codec.call_format}; other prompts are other tasks.")
    if facts["training"] is None:
        lines.append("What its base model cannot do, it cannot do either: see the base's card.")
    lines.append(
        "A call is text that a model wrote: check it against the tool's schema before it is executed."
    )
    return "\n".join(f"- {line}" for line in lines)


def _provenance(folder: Path, about: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    kept = f" `{BASE_README}` is the card of the base model." if (folder / BASE_README).is_file() else ""
    return table({
        "written by": f"xlam-jax {about.get('package_version', 'unknown')}",
        "weights (XXH3-128)": f"`{about['weights_xxh3_128']}`" if about.get("weights_xxh3_128") else None,
        "base weights (XXH3-128)": facts["base"]["weights_xxh3_128"] and f"`{facts['base']['weights_xxh3_128']}`",
        "data (fingerprint)": f"`{facts['data']['fingerprint']}`" if facts["data"] else None,
    }) + f"\n\nSHA-256 of every file: `checksums.json`; what this card is made of: `{PROVENANCE}`.{kept}"  # fmt: skip


def citation_section(facts: Mapping[str, Any]) -> str:
    year = ((facts["training"] or {}).get("started") or "")[:4]
    title = re.sub(r"[{}\\]", "", facts["name"])
    lines = [f"  title = {{{title}}},", *([f"  year = {{{year}}},"] if year else [])]
    own = "\n".join(("@misc{this_model,", *lines, f"  note = {{made with xlam-jax {__version__}}}", "}"))
    entries = fenced(f"{own}\n\n{_PAPERS}", "bibtex")
    return f"{entries}\n\nThe base model's own citation stands on its card."
