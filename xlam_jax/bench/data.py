"""CPU seconds of the data stages, and of the usual way on the same rows, in one run."""

from __future__ import annotations

import functools
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import numpy as np

from xlam_jax.errors import InputError
from xlam_jax.extras import need
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
from xlam_jax.records.augment.config import AugmentConfig
from xlam_jax.records.augment.run import augment_file
from xlam_jax.records.engine import CHUNK_ROWS, LocalEngine, RowEngine, chunks
from xlam_jax.records.quality.rules import RuleConfig, Rules
from xlam_jax.records.quality.verify import VerifyConfig, verify
from xlam_jax.records.sources.convert import convert
from xlam_jax.shards.build import BuildConfig, CodecConfig, build
from xlam_jax.shards.folder import write_shards
from xlam_jax.shards.pack import Document, document, fill, plan
from xlam_jax.shards.tokenize import EncodeError, Encoder, load_tokenizer, special_token_in, special_tokens

_OURS = "verify, render, tokenise, mask, check, pack"
_USUAL = "datasets.map: render, tokenise"
_USUAL_VERIFIED = "datasets.map: verify, render, tokenise"


@dataclass(frozen=True)
class VerifyAndTokenise:
    """A task on the lines of a Records file: the documents of all rows that the rules let pass."""

    codec: CodecConfig
    tokenizer: str

    def __call__(self, start: int, items: Sequence[tuple[bytes, str]]) -> list[tuple[str, Document]]:
        codec, rules, (encoder, specials) = self.codec.make(), Rules(RuleConfig()), _encoder(self.tokenizer)
        rows, ids = [], []
        for line, where in items:
            kept, _ = rules.apply(Record.from_json(parse_line(line, where), where), len(line))
            if kept and special_token_in(kept, specials, line) is None:
                styled = codec.styled(kept.style)
                rows.append((styled.render(kept), styled, kept.id))
                ids.append(kept.id)
        made = zip(ids, encoder(rows), strict=True)
        return [(id, document(row)) for id, row in made if not isinstance(row, EncodeError)]


@functools.lru_cache(maxsize=2)
def _encoder(folder: str) -> tuple[Encoder, tuple[str, ...]]:
    tokenizer = load_tokenizer(folder)
    return Encoder(tokenizer, where=folder), special_tokens(tokenizer)


def bench_data(
    paths: Sequence[Path],
    tokenizer: Path,
    codec: CodecConfig = CodecConfig(),
    workers: int = 1,
    seq_len: int = 4096,
    baseline: bool = True,
    rounds: int = 1,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Times convert, verify, augment and build end to end (files in, files out), and the usual way.

    Compared is like with like: from a file of rows to token ids on the disk. Ours verifies, renders, tokenises,
    masks, checks and packs; the usual way is `datasets.map` with `apply_chat_template(tokenize=True)` on JSON
    columns, with the codec's own Jinja template, and, as a second run, with jsonschema before it, its validators
    compiled once a schema. Both give the same ids, and run in as many processes.

    Args:
      paths: Records; rows that spell a control token or that the rules drop are left out beforehand, so that
        every stage sees the same rows.
      rounds: the compared ways run in turns, this often; of each the round of least CPU seconds is kept. Each
        round loads the tokenizer anew and remembers nothing of the one before.

    Returns:
      `rows`, `stages` (`stage, rows, seconds, cpu_seconds` of all processes, `rows_per_second`), `ratio_verified`
      and `ratio_plain` (CPU seconds of the usual way with and without verification over ours with it),
      `profile` (`part, cpu_seconds, percent` of ours in one process), `floor` (what no way of ours goes below:
      `tokenizer_whole`, `tokenizer_distinct`, CPU seconds), device and versions.

    Raises:
      InputError: no usable rows, or `datasets` is not installed.
    """
    engine = LocalEngine(workers)
    stages: dict[str, dict[str, Any]] = {}
    loaded = load_tokenizer(tokenizer)
    with TemporaryDirectory(prefix="xlam-bench-") as folder:
        root = Path(folder)
        records = _usable(paths, special_tokens(loaded))
        write_records(root / "records.jsonl", records)

        def timed(stage: str, rows: int, work: Callable[[], Any]) -> None:
            progress(stage)
            begun, cpu = time.perf_counter(), _cpu_seconds()
            work()
            seconds, cpu = time.perf_counter() - begun, _cpu_seconds() - cpu
            timing: dict[str, Any] = {"stage": stage, "rows": rows, "seconds": seconds, "cpu_seconds": cpu}
            timing["rows_per_second"] = round(rows / seconds, 1)
            if stage not in stages or cpu < stages[stage]["cpu_seconds"]:
                stages[stage] = timing

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
        rows = _baseline_rows(records, codec.make(), root) if baseline else None
        ours: dict[str, np.ndarray] = {}
        for k in range(rounds):
            out = root / f"packed{k}"
            timed(_OURS, n, lambda o=out: ours.update(_ours(source, o, codec, tokenizer, seq_len, engine)))
            for stage, check in ((_USUAL, False), (_USUAL_VERIFIED, True)) if baseline else ():
                made: list[Any] = []
                timed(stage, n, lambda c=check, m=made: m.append(_usual(rows, codec, tokenizer, c, workers)))
                _demand_equal(ours, made[0])
        profile, floor = _profile(source, root / "again", codec, tokenizer, seq_len)
        cpu = {stage: timing["cpu_seconds"] for stage, timing in stages.items()}
        ratios = {
            name: round(cpu[stage] / cpu[_OURS], 2)
            for name, stage in (("ratio_verified", _USUAL_VERIFIED), ("ratio_plain", _USUAL))
            if baseline
        }
    packages = ("datasets", "transformers", "tokenizers", "jsonschema", "jsonschema-rs")
    return {
        "rows": n,
        "workers": workers,
        "rounds": rounds,
        "stages": list(stages.values()),
        **ratios,
        "profile": profile,
        "floor": floor,
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


def _cpu_seconds() -> float:
    """Of this process, its threads, and the children that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _ours(
    source: Path, out: Path, codec: CodecConfig, tokenizer: Path, seq_len: int, engine: RowEngine
) -> dict[str, np.ndarray]:
    """Packs and writes; returns the inputs of each row by its id."""
    _encoder.cache_clear()
    task = VerifyAndTokenise(codec, str(tokenizer))
    rows = [row for chunk in engine.run(task, read_lines(source)) for row in chunk]
    _pack(rows, out, seq_len)
    return {id: made.tokens for id, made in rows}


def _pack(rows: Sequence[tuple[str, Document]], out: Path, seq_len: int) -> None:
    fitting = [row for row in rows if len(row[1].tokens) <= seq_len]
    order = plan([len(made.tokens) for _, made in fitting], seq_len, 0)
    packed = ((fill([fitting[i][1] for i in k], seq_len), [fitting[i][0] for i in k]) for k in order)
    write_shards(out, packed, {"seq_len": seq_len}, 4096)


def _profile(
    source: Path, out: Path, codec: CodecConfig, folder: Path, seq_len: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """CPU seconds of each part of our way, and of the tokenizer alone."""
    spent: dict[str, float] = {}

    def part(name: str, work: Callable[[], Any]) -> Any:
        begun = _cpu_seconds()
        made = work()
        spent[name] = spent.get(name, 0.0) + _cpu_seconds() - begun
        return made

    tokenizer = load_tokenizer(folder)
    encoder, specials = Encoder(tokenizer, where=str(folder)), special_tokens(tokenizer)
    made_codec, rules = codec.make(), Rules(RuleConfig())
    rows: list[tuple[str, Document]] = []
    texts: list[str] = []
    for _, items in chunks(read_lines(source), CHUNK_ROWS):
        values = part("parse JSON", lambda i=items: [parse_line(line, where) for line, where in i])
        records = part("Record", lambda v=values: [Record.from_json(value) for value in v])
        kept = part(
            "verify", lambda r=records: [made for made, _ in map(rules.apply, r, [1] * len(r)) if made]
        )
        line_of = dict(zip((value.get("id") for value in values), (line for line, _ in items), strict=True))
        part(
            "control tokens",
            lambda k=kept, of=line_of: [special_token_in(r, specials, of.get(r.id)) for r in k],
        )
        styled = [made_codec.styled(record.style) for record in kept]
        rendered = part("render", lambda k=kept, c=styled: [c[i].render(r) for i, r in enumerate(k)])
        names = [record.id for record in kept]
        encoded = part(
            "tokenise, mask, check",
            lambda r=rendered, c=styled, n=names: encoder([*zip(r, c, n, strict=True)]),
        )
        rows += [
            (n, document(e)) for n, e in zip(names, encoded, strict=True) if not isinstance(e, EncodeError)
        ]
        texts += [one.text for one in rendered]
    part("pack and write", lambda: _pack(rows, out, seq_len))
    total = sum(spent.values()) or 1.0  # few rows take less than the clock counts
    table = [{"part": k, "cpu_seconds": v, "percent": round(100 * v / total, 1)} for k, v in spent.items()]
    backend, floor = tokenizer.backend_tokenizer, {}
    # A word alone would pay for its call more than for its tokens.
    words = list(encoder.distinct)
    joined = ["".join(words[at : at + CHUNK_ROWS]) for at in range(0, len(words), CHUNK_ROWS)]
    for name, some in (("tokenizer_whole", texts), ("tokenizer_distinct", joined)):
        begun = _cpu_seconds()
        for at in range(0, len(some), CHUNK_ROWS):
            backend.encode_batch_fast(some[at : at + CHUNK_ROWS], add_special_tokens=False)
        floor[name] = _cpu_seconds() - begun
    return table, floor


def _demand_equal(ours: dict[str, np.ndarray], usual: Any) -> None:
    for id, ids in zip(usual["id"], usual["input_ids"], strict=True):
        mine = ours.get(id)
        # Ours ends where the last trained token is predicted.
        if mine is not None and list(ids[: len(mine)]) != mine.tolist():
            raise AssertionError(f"the two ways do not give the same ids for {id}")


def _baseline_rows(records: Sequence[Record], codec: Codec, root: Path) -> Any:
    """Messages and tools as JSON columns: their arguments have no common Arrow type."""
    need("datasets", "bench", where="the usual way", instead="--no-usual")
    import datasets

    datasets.disable_progress_bars()
    columns: dict[str, list[str]] = {"id": [], "messages": [], "tools": [], "settings": []}
    for record in records:
        columns["id"].append(record.id)
        messages, tools = codec.messages(record)
        settings = codec.template_kwargs(record)
        for name, value in (("messages", messages), ("tools", tools), ("settings", settings)):
            columns[name].append(json.dumps(value, ensure_ascii=False))
    # On disk, as a downloaded set is; a set in memory would travel to the workers with every call.
    datasets.Dataset.from_dict(columns).save_to_disk(str(root / "arrow"))
    return datasets.load_from_disk(str(root / "arrow"))


def _usual(rows: Any, codec: CodecConfig, folder: Path, check: bool, workers: int) -> Any:
    """The table with `input_ids`, which `map` writes to the disk."""
    tokenizer = load_tokenizer(folder)
    template = codec.make().jinja()
    validators: dict[str, Any] = {}

    def tokenise(row: dict[str, str]) -> dict[str, Any]:
        messages, tools, valid = json.loads(row["messages"]), json.loads(row["tools"]), True
        if check:
            schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
            for message in messages:
                for call in message.get("tool_calls", ()):
                    called = call["function"]
                    schema = schemas.get(called["name"], False)
                    key = json.dumps(schema)
                    if key not in validators:
                        validators[key] = jsonschema.Draft202012Validator(schema)
                    try:
                        valid = valid and validators[key].is_valid(called["arguments"])
                    except Exception:  # published schemas contradict themselves now and then
                        valid = False
        ids = tokenizer.apply_chat_template(
            messages,
            tools=tools,
            chat_template=template,
            tokenize=True,
            return_dict=False,
            **json.loads(row["settings"]),
        )
        return {"input_ids": ids, "valid": valid}

    return rows.map(tokenise, num_proc=workers if workers > 1 else None, load_from_cache_file=False)
