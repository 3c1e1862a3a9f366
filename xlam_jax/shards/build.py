"""Records or preference pairs -> packed shards: mix, render, tokenise once, mask, pack.

Every dropped row is in the ledger.

Tokenised rows wait in a file beside the output, so memory hardly grows with their number.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
import pydantic

from xlam_jax.config import Config
from xlam_jax.errors import InputError
from xlam_jax.files import room_on_disk, sha256_of
from xlam_jax.format.codec import Codec, get_codec
from xlam_jax.format.presets import get_preset
from xlam_jax.format.record import read_lines, write_lines
from xlam_jax.ledger import Ledger
from xlam_jax.records.augment.origin import functions_of
from xlam_jax.records.engine import LocalEngine, RowEngine
from xlam_jax.shards.batch import Batch, ForkBatch, PairBatch
from xlam_jax.shards.folder import write_shards
from xlam_jax.shards.forks import fill_forks, group, length_of
from xlam_jax.shards.mixture import Holdout, InputConfig, ValidationConfig, choose, epochs_of, held_functions
from xlam_jax.shards.pack import Document, fill, plan
from xlam_jax.shards.preference import PairLayout, fill_pairs
from xlam_jax.shards.rows import CONTRADICTION, TokenisedRow, document_kind, tokenise
from xlam_jax.shards.spool import Spool
from xlam_jax.shards.tokenize import check_tokenizer, load_tokenizer, tokenizer_hash


class CodecConfig(Config):
    """The three choices that compose a codec, and whether answers carry a thought.

    A record that was augmented brings a style of its own, which goes before these.

    Attributes:
      preset: a released family's choices and wordings (a key of `PRESETS`), in place of all others.
      call_format: how calls are written; `xlam_jax.format.call_formats` has the names.
      template: chat template.
      layout: how the prompt's sections are marked.
      thought: whether an answer begins with its thought.
    """

    call_format: str = "xlam-json"
    template: str = "chatml"
    layout: str = "brackets"
    thought: bool = False
    preset: str = ""

    @pydantic.model_validator(mode="after")
    def _one_or_the_other(self) -> CodecConfig:
        others = sorted(self.model_fields_set - {"preset"})
        if self.preset and others:
            raise ValueError(f"a preset leaves no choice of {', '.join(others)}")
        return self

    def make(self) -> Codec:
        """The codec.

        Raises:
          InputError: a name that is not known (the hint is the nearest one).
        """
        if self.preset:
            return get_preset(self.preset).codec
        return get_codec(self.call_format, self.template, self.layout, self.thought)


class BuildConfig(Config):
    """What `xlam data build` reads.

    Attributes:
      inputs: Record files (JSONL, gzip by name), each as a path or with its `epochs` and `share`.
      rows: rows of the whole mixture when inputs have shares; left out, as many as the shares allow.
      tokenizer: folder with the tokenizer, usually the model's.
      out: the data folder to write; the ledger goes to `out.ledger.jsonl`.
      seq_len: positions in a packed row.
      validation: functions to hold out, and where their rows go.
      kind: what the inputs hold and the rows will: "sft" Records, "preference" Pairs
        (`records.pairs` makes them).
      pair_layout: "separate" writes each answer with its prompt, for every attention backend; "shared" writes
        what both begin with once, see `shards.preference`.
      share_prompts: of records whose prompts begin alike (questions on one list of tools), write the common
        beginning once, see `shards.forks`. Equal losses, fewer positions; of attention "xla" only.
      deny_licences: shell patterns; a row whose licence matches one is dropped. `*-NC-*` keeps
        non-commercial data out of a release.
      codec: how a record becomes text.
      seed: of the order in which rows are packed.
      rows_per_shard: rows of one file.
    """

    inputs: list[str | InputConfig] = pydantic.Field(min_length=1)
    tokenizer: str
    out: str
    codec: CodecConfig = CodecConfig()
    kind: Literal["sft", "preference"] = "sft"
    pair_layout: PairLayout = "separate"
    share_prompts: bool = False
    seq_len: int = pydantic.Field(default=1024, ge=8)
    rows: int | None = pydantic.Field(default=None, ge=1)
    validation: ValidationConfig = ValidationConfig()
    deny_licences: list[str] = pydantic.Field(default=[])
    seed: int = 0
    rows_per_shard: int = pydantic.Field(default=4096, ge=1)

    @pydantic.model_validator(mode="after")
    def _layout_of_pairs(self) -> BuildConfig:
        if "pair_layout" in self.model_fields_set and self.kind != "preference":
            raise ValueError("pair_layout is for kind: preference")
        if self.share_prompts and self.kind != "sft":
            raise ValueError("share_prompts is for kind: sft; pairs have pair_layout: shared")
        return self

    @property
    def mixture(self) -> list[InputConfig]:
        """The inputs, each in its long form."""
        return [InputConfig(path=i) if isinstance(i, str) else i for i in self.inputs]

    @property
    def validation_out(self) -> Path:
        """Where validation rows go, if there are any."""
        return Path(self.validation.out or self.out.rstrip("/") + "-validation")


def build(
    config: BuildConfig,
    progress: Callable[[int, str], None] | None = None,
    engine: RowEngine = LocalEngine(),
) -> dict:
    """Writes the data folder (and the one for validation) and returns its manifest.

    Args:
      progress: called with (records kept, current file).
      engine: where rows are rendered and tokenised; every engine gives the same bytes.

    Raises:
      InputError: a missing or malformed input (with file:line), a tokenizer that lacks the stop token,
        shares that cannot be met, rows whose format instruction asks for other answers than theirs, or no row
        left to train on.
    """
    out, mixture = Path(config.out), config.mixture
    for source in mixture:
        if not source.files:
            to = re.sub(r"[^/]*[*?\[][^/]*$", "SOURCE.jsonl.gz", source.path)
            hint = f"check `inputs`; a public data set comes in by: xlam data convert SOURCE IN {to}"
            raise InputError("input not found", where=source.path, hint=hint)
    codec = config.codec.make()
    check_tokenizer(load_tokenizer(config.tokenizer), codec, where=config.tokenizer)

    with room_on_disk(out), ExitStack() as stack:
        ledger = stack.enter_context(Ledger(out.with_name(out.name + ".ledger.jsonl")))
        spool: Spool[Any] = stack.enter_context(
            Spool(out.with_name(out.name + ".spool"), document_kind(config))
        )
        held = _Validation(config, stack)
        holdout = Holdout(config.validation.functions, config.seed)
        if holdout.fraction:
            holdout = held_functions(itertools.chain.from_iterable(map(_lines, mixture)), holdout)
        task = tokenise(config, holdout)
        firsts, inputs = [0], []
        contradictory: list[str] = []
        origins: list[Counter[tuple[str, str]]] = []  # of each input: rows by source and licence
        for source in mixture:
            origins.append(Counter())
            read = 0
            for result in engine.run(replace(task, license=source.license), _lines(source)):
                for entry in result.entries:
                    ledger.add_entry(entry)
                    contradictory += [entry.id] if entry.reason == CONTRADICTION else []
                read += len(result.entries)
                for row in result.rows:
                    if row.part == "validation":
                        held.add(row)
                        continue
                    spool.add(row.document, row.record.id)
                    licence = row.record.license or source.license or "unknown"
                    origins[-1][row.record.source or "unknown", licence] += 1
                if progress:
                    progress(len(spool), source.path)
            firsts.append(len(spool))
            inputs.append(_input(source, read, firsts[-1] - firsts[-2]))
        yields = ledger.table()
        if contradictory:
            ledger.close()
            raise _contradiction(contradictory, config)
        if not len(spool):
            ledger.close()  # the one thing to keep: it says why
            raise _nothing_left(inputs, yields, config)
        used = _mix(config, mixture, inputs, firsts, spool)
        manifest = {
            **_facts(config),
            "inputs": inputs,
            "licences": _weighted(origins, inputs, lambda origin: origin[1]),
            "sources": _weighted(origins, inputs, lambda origin: origin[0]),
            "source_licences": _nested(_weighted(origins, inputs, lambda origin: origin)),
            "yields": yields,
            "repaired": ledger.repairs(),
        }
        if config.validation.functions:
            manifest["validation"] = held.write()
        return write_shards(out, _packed(spool, used, config), manifest, config.rows_per_shard)


class _Validation:
    """The held-out rows: packed like the training rows, and kept as Records for evaluation."""

    def __init__(self, config: BuildConfig, stack: ExitStack):
        self._config, self._out = config, config.validation_out
        self.spool: Spool[Any] = stack.enter_context(
            Spool(self._out.with_name(self._out.name + ".spool"), document_kind(config))
        )
        self._records = stack.enter_context(TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115
        self._functions: set[str] = set()
        self._count = 0

    def add(self, row: TokenisedRow) -> None:
        self.spool.add(row.document, row.record.id)
        if row.again:
            return
        self._count += 1
        self._records.write(json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
        self._functions.update(functions_of(row.record)[0])

    def write(self) -> dict[str, Any]:
        facts = {"functions": len(self._functions), "records": self._count, "out": str(self._out)}
        if not len(self.spool):
            return facts
        self._records.seek(0)
        lines = (line.rstrip("\n") for line in self._records)
        write_lines(self._out.with_name(self._out.name + ".jsonl"), lines)
        manifest = {**_facts(self._config), "functions": sorted(self._functions)}
        everything = np.arange(len(self.spool))
        rows = _packed(self.spool, everything, self._config)
        write_shards(self._out, rows, manifest, self._config.rows_per_shard)
        return facts


def _lines(source: InputConfig) -> Iterator[tuple[bytes, str]]:
    return itertools.chain.from_iterable(map(read_lines, source.files))


def _facts(config: BuildConfig) -> dict[str, Any]:
    pairs = {"pair_layout": config.pair_layout} if config.kind == "preference" else {}
    return {
        "kind": config.kind,
        **pairs,
        **({"share_prompts": True} if config.share_prompts else {}),
        "seq_len": config.seq_len,
        "seed": config.seed,
        "codec": config.codec.make().settings,
        "tokenizer": {"path": config.tokenizer, "sha256": tokenizer_hash(config.tokenizer)},
    }


def _input(source: InputConfig, read: int, usable: int) -> dict[str, Any]:
    files = [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in source.files
    ]
    return {"path": source.path, "records": read, "usable": usable, "files": files}


def _mix(
    config: BuildConfig, mixture: list[InputConfig], inputs: list[dict], firsts: list[int], spool: Spool[Any]
) -> np.ndarray:
    """Indices of the documents to pack, with repetitions; fills each input's share into `inputs`."""
    usable = [i["usable"] for i in inputs]
    epochs = epochs_of(mixture, usable, config.rows)
    used = [
        first + choose(n, e, config.seed + k)
        for k, (first, n, e) in enumerate(zip(firsts, usable, epochs, strict=False))
    ]
    lengths = np.asarray(spool.lengths)
    rows, tokens = sum(map(len, used)), sum(int(lengths[u].sum()) for u in used)
    for facts, chosen, epoch in zip(inputs, used, epochs, strict=True):
        facts["epochs"] = round(epoch, 4)
        facts["rows_percent"] = round(100 * len(chosen) / max(1, rows), 2)
        facts["tokens_percent"] = round(100 * int(lengths[chosen].sum()) / max(1, tokens), 2)
    return np.concatenate(used)


def _weighted(
    counts: list[Counter[tuple[str, str]]], inputs: list[dict], key: Callable[[tuple[str, str]], Any]
) -> dict[Any, int]:
    """Rows by key of their (source, licence) over the mixture, each input's times its epochs."""
    total: Counter[Any] = Counter()
    for count, facts in zip(counts, inputs, strict=True):
        rows: Counter[Any] = Counter()
        for origin, n in count.items():
            rows[key(origin)] += n
        total.update({name: round(n * facts["epochs"]) for name, n in rows.items()})
    return dict(total.most_common())


def _nested(origins: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for (source, licence), n in origins.items():
        out.setdefault(source, {})[licence] = n
    return out


def _packed(
    spool: Spool[Any], used: np.ndarray, config: BuildConfig
) -> Iterator[tuple[Batch | ForkBatch | PairBatch, list[str]]]:
    if config.share_prompts:
        yield from _forked(spool, used, config)
        return
    lengths = np.asarray(spool.lengths)[used]
    for members in plan(lengths, config.seq_len, config.seed):
        documents, ids = zip(*(spool[int(used[i])] for i in members), strict=True)
        yield (fill_pairs if config.kind == "preference" else fill)(documents, config.seq_len), list(ids)


def _forked(
    spool: Spool[Any], used: np.ndarray, config: BuildConfig
) -> Iterator[tuple[ForkBatch, list[str]]]:
    read = _Reading(spool, used)
    groups = group(read, config.seq_len)
    lengths = [length_of([read[i] for i in members]) for members in groups]
    for row in plan(lengths, config.seq_len, config.seed):
        documents = [[read[i] for i in groups[k]] for k in row]
        yield fill_forks(documents, config.seq_len), [read.name(i) for k in row for i in groups[k]]


class _Reading(Sequence[Document]):
    """The used documents, each read from the disk when it is asked for."""

    def __init__(self, spool: Spool[Any], used: np.ndarray):
        self._spool, self._used = spool, used

    def __len__(self) -> int:
        return len(self._used)

    def __getitem__(self, i: Any) -> Any:
        return self._spool[int(self._used[i])][0]

    def name(self, i: int) -> str:
        return self._spool[int(self._used[i])][1]


def _contradiction(ids: list[str], config: BuildConfig) -> InputError:
    named = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return InputError(
        f"the format instruction of {len(ids)} rows asks for other answers than theirs: {named}",
        where=f"{config.out}.ledger.jsonl has what each asks for",
        hint="augment with the `preset` that the data is built with, or build with the codec of the instructions",
    )


def _nothing_left(inputs: list[dict], yields: list[dict], config: BuildConfig) -> InputError:
    total = sum(i["records"] for i in inputs)
    reasons = yields[0]["reasons"] if yields else {}
    where = ", ".join(i["path"] for i in inputs)
    if not total:
        return InputError("the inputs hold no record", where=where)
    counts = ", ".join(f"{code} {n}" for code, n in reasons.items())
    hint = (
        f"raise seq_len (now {config.seq_len})"
        if "too_long" in reasons
        else "read the ledger for each row's reason"
    )
    what = f"nothing left to train on: all {total} rows were refused ({counts or 'held out'})"
    return InputError(what, where=where, hint=hint)
