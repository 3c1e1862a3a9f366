"""Rows a second of the data stages, and of the usual way on the same rows, in one run."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema

from xlam_jax.data.augment.config import AugmentConfig
from xlam_jax.data.augment.run import augment_file
from xlam_jax.data.build import BuildConfig, CodecConfig, build
from xlam_jax.data.engine import ChunkResult, Engine, LocalEngine, run_to_file
from xlam_jax.data.quality.rules import RuleConfig, Rules
from xlam_jax.data.quality.verify import VerifyConfig, verify
from xlam_jax.data.sources.convert import convert
from xlam_jax.data.tokenize import load_tokenizer, special_token_in, special_tokens
from xlam_jax.errors import InputError
from xlam_jax.format.codec import Codec
from xlam_jax.format.record import (
    Record,
    parse_line,
    read_lines,
    read_records,
    write_json_lines,
    write_records,
)
from xlam_jax.format.spellings import to_60k
from xlam_jax.ledger import Ledger


@dataclass(frozen=True)
class VerifyAndRender:
    """A task on the lines of a Records file: the text of every row that the rules let pass."""

    codec: CodecConfig

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> ChunkResult:
        codec, rules, result = self.codec.make(), Rules(RuleConfig()), ChunkResult()
        encode = json.JSONEncoder(ensure_ascii=False).encode
        for line, where in items:
            kept, entry = rules.apply(Record.from_json(parse_line(line, where), where), len(line))
            result.entries.append(entry)
            if kept:
                text = codec.styled(kept.style).render(kept).text
                result.lines.append(encode({"id": kept.id, "text": text}))
        return result


def bench_data(
    paths: Sequence[Path],
    tokenizer: Path,
    codec: CodecConfig = CodecConfig(),
    workers: int = 1,
    seq_len: int = 4096,
    baseline: bool = True,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Times convert, verify, augment and build end to end (files in, files out), and the usual way.

    The usual way is `datasets.map` with `apply_chat_template` on JSON columns, with the codec's own Jinja
    template, so that both write the same text; and, as a second run, with `jsonschema.validate` for each
    call before it. It runs in as many processes as ours.

    Args:
      paths: Records; rows that spell a control token or that the rules drop are left out beforehand, so that
        every stage sees the same rows.

    Returns:
      `rows`, `stages` (`stage, rows, seconds, rows_per_second`), `ratio_verify_render` (ours over the usual
      way with verification) and `ratio_render` (ours with verification over the usual way without), device
      and versions.

    Raises:
      InputError: no usable rows, or `datasets` is not installed.
    """
    engine, stages = LocalEngine(workers), []
    loaded = load_tokenizer(tokenizer)
    with TemporaryDirectory(prefix="xlam-bench-") as folder:
        root = Path(folder)
        records = _usable(paths, special_tokens(loaded))
        write_records(root / "records.jsonl", records)

        def timed(stage: str, rows: int, work: Callable[[], Any]) -> None:
            progress(stage)
            begun = time.perf_counter()
            work()
            seconds = time.perf_counter() - begun
            per_second = round(rows / seconds, 1)
            stages.append({"stage": stage, "rows": rows, "seconds": seconds, "rows_per_second": per_second})

        n, source = len(records), root / "records.jsonl"
        raw = _as_60k(records, root / "raw.jsonl")
        timed(
            "convert", raw, lambda: convert("xlam-60k", root / "raw.jsonl", root / "c.jsonl", engine=engine)
        )
        timed("verify", n, lambda: verify(source, root / "v.jsonl", engine=engine))
        alone = VerifyConfig.model_validate({"rules": {"actions": {"near_duplicate": "off"}}})
        timed(
            "verify without near duplicates",
            n,
            lambda: verify(source, root / "w.jsonl", alone, engine=engine),
        )
        timed("augment", n, lambda: augment_file(source, root / "a.jsonl", AugmentConfig(), engine))
        settings = BuildConfig(
            inputs=[str(source)],
            tokenizer=str(tokenizer),
            out=str(root / "shards"),
            codec=codec,
            seq_len=seq_len,
        )
        timed("render, tokenise, pack", n, lambda: build(settings, engine=engine))
        timed("verify and render", n, lambda: _ours(source, root / "texts.jsonl", codec, engine))
        ratios = {}
        if baseline:
            rows = _baseline_rows(records, codec.make(), root)
            for stage, check in (("datasets.map: render", False), ("datasets.map: verify and render", True)):
                texts: list[str] = []
                timed(stage, n, lambda c=check, t=texts: t.extend(_usual(rows, codec, tokenizer, c, workers)))
                if texts != _texts(root / "texts.jsonl"):
                    raise AssertionError("the two ways do not write the same texts")
            rate = {s["stage"]: s["rows_per_second"] for s in stages}
            ours = rate["verify and render"]
            ratios = {
                "ratio_verify_render": round(ours / rate["datasets.map: verify and render"], 2),
                "ratio_render": round(ours / rate["datasets.map: render"], 2),
            }
    packages = ("datasets", "transformers", "tokenizers", "jsonschema", "jsonschema-rs")
    return {
        "rows": n,
        "workers": workers,
        "stages": stages,
        **ratios,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in packages if baseline or name != "datasets"},
    }


def _usable(paths: Sequence[Path], specials: tuple[str, ...]) -> list[Record]:
    rules = Rules(RuleConfig())
    kept = {}
    for path in paths:
        for record in read_records(path):
            made = rules.apply(record)[0] if special_token_in(record, specials) is None else None
            if made and made.steps:
                kept[made.id] = made
    if not kept:
        raise InputError("no row that every stage takes", where=", ".join(map(str, paths)))
    return list(kept.values())


def _as_60k(records: Sequence[Record], path: Path) -> int:
    """The rows that the 60k set's spelling can hold."""
    rows = []
    for record in records:
        try:
            rows.append(to_60k(record))
        except InputError:
            continue
    return write_json_lines(path, rows)


def _ours(source: Path, out: Path, codec: CodecConfig, engine: Engine) -> None:
    with Ledger(out.with_name(out.name + ".ledger.jsonl")) as ledger:
        run_to_file(engine, VerifyAndRender(codec), read_lines(source), out, ledger)


def _texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line, _ in read_lines(path)]


def _baseline_rows(records: Sequence[Record], codec: Codec, root: Path) -> Any:
    """Messages and tools as JSON columns: their arguments have no common Arrow type."""
    try:
        import datasets
    except ImportError as e:
        raise InputError("the comparison needs datasets", hint="pip install 'xlam-jax[bench]'") from e
    datasets.disable_progress_bars()
    columns: dict[str, list[str]] = {"messages": [], "tools": [], "settings": []}
    for record in records:
        messages, tools = codec.messages(record)
        settings = codec.template_kwargs(record)
        for name, value in (("messages", messages), ("tools", tools), ("settings", settings)):
            columns[name].append(json.dumps(value, ensure_ascii=False))
    # On disk, as a downloaded set is; a set in memory would travel to the workers with every call.
    datasets.Dataset.from_dict(columns).save_to_disk(str(root / "arrow"))
    return datasets.load_from_disk(str(root / "arrow"))


def _usual(rows: Any, codec: CodecConfig, folder: Path, check: bool, workers: int) -> list[str]:
    tokenizer = load_tokenizer(folder)
    template = codec.make().jinja()

    def render(row: dict[str, str]) -> dict[str, Any]:
        messages, tools, valid = json.loads(row["messages"]), json.loads(row["tools"]), True
        if check:
            schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
            for message in messages:
                for call in message.get("tool_calls", ()):
                    called = call["function"]
                    try:
                        jsonschema.validate(called["arguments"], schemas[called["name"]])
                    except (jsonschema.ValidationError, jsonschema.SchemaError):
                        valid = False  # published schemas contradict themselves now and then
        text = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=template,
            tokenize=False,
            **json.loads(row["settings"]),
        )
        return {"text": text, "valid": valid}

    made = rows.map(render, num_proc=workers if workers > 1 else None, load_from_cache_file=False)
    return list(made["text"])
