"""Records -> packed shards: render, tokenise once, mask, pack, write; every dropped row is in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic

from xlam_jax.config import Config
from xlam_jax.data.batch import Batch
from xlam_jax.data.pack import Document, document, fill, plan
from xlam_jax.data.shards import file_hash, write_shards
from xlam_jax.data.tokenize import (
    EncodeError,
    check_tokenizer,
    encode,
    load_tokenizer,
    special_token_in,
    special_tokens,
    tokenizer_hash,
)
from xlam_jax.errors import InputError
from xlam_jax.format.codec import get_codec
from xlam_jax.format.record import Record, read_records
from xlam_jax.ledger import Ledger

STAGE = "tokenise"


class CodecConfig(Config):
    """The three choices that compose a codec, and whether answers carry a thought."""

    call_format: str = "xlam-json"
    template: str = "chatml"
    layout: str = "brackets"
    thought: bool = False


class BuildConfig(Config):
    """What `xlam data build` reads.

    Attributes:
      inputs: Record files (JSONL, gzip by name).
      tokenizer: folder with the tokenizer, usually the model's.
      out: the data folder to write; the ledger goes to `out.ledger.jsonl`.
      seq_len: positions in a packed row.
    """

    inputs: list[str] = pydantic.Field(min_length=1)
    tokenizer: str
    out: str
    codec: CodecConfig = CodecConfig()
    seq_len: int = pydantic.Field(1024, ge=8)
    seed: int = 0
    rows_per_shard: int = pydantic.Field(4096, ge=1)


def build(config: BuildConfig, progress: Callable[[int, str], None] | None = None) -> dict:
    """Writes the data folder and returns its manifest, with the ledger's `yields` in it.

    Args:
      progress: called with (records read, current file).

    Raises:
      InputError: a missing or malformed input (with file:line), a tokenizer that lacks the stop token,
        or no row left to train on.
    """
    out = Path(config.out)
    for path in config.inputs:
        if not Path(path).is_file():
            raise InputError("input not found", where=path, hint="check `inputs`")
    codec = get_codec(**config.codec.model_dump())
    tokenizer = load_tokenizer(config.tokenizer)
    check_tokenizer(tokenizer, codec, where=config.tokenizer)
    specials = special_tokens(tokenizer)

    docs: list[Document] = []
    ids: list[str] = []
    licences: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    inputs: list[dict[str, Any]] = []
    with Ledger(out.with_name(out.name + ".ledger.jsonl")) as ledger:
        for path in config.inputs:
            read = 0
            for record in read_records(path):
                read += 1
                if progress:
                    progress(len(ids), path)
                try:
                    docs.append(_document(record, codec, tokenizer, specials, config.seq_len))
                except EncodeError as e:
                    ledger.add(record.id, record.source, STAGE, "dropped", e.code, e.what)
                    continue
                ledger.add(record.id, record.source, STAGE, "pass")
                ids.append(record.id)
                licences[record.license or "unknown"] += 1
                sources[record.source or "unknown"] += 1
            size = Path(path).stat().st_size
            inputs.append({"path": path, "records": read, "bytes": size, "sha256": file_hash(Path(path))})
        yields = ledger.table()
    if not docs:
        raise _nothing_left(inputs, yields, config)

    manifest = {
        "seq_len": config.seq_len,
        "seed": config.seed,
        "codec": config.codec.model_dump(),
        "tokenizer": {"path": config.tokenizer, "sha256": tokenizer_hash(config.tokenizer)},
        "inputs": inputs,
        "licences": dict(licences.most_common()),
        "sources": dict(sources.most_common()),
        "yields": yields,
    }

    def rows() -> Iterator[tuple[Batch, list[str]]]:
        for members in plan([len(d.tokens) for d in docs], config.seq_len, config.seed):
            yield fill([docs[i] for i in members], config.seq_len), [ids[i] for i in members]

    return write_shards(out, rows(), manifest, config.rows_per_shard)


def _document(
    record: Record, codec: Any, tokenizer: Any, specials: tuple[str, ...], seq_len: int
) -> Document:
    where = f"record {record.id}"
    if found := special_token_in(record, specials):
        raise EncodeError(
            "special_token_in_text", f"the text spells the control token {found!r}", where=where
        )
    return document(encode(codec.render(record), tokenizer, bos=codec.bos, max_len=seq_len, where=where))


def _nothing_left(inputs: list[dict], yields: list[dict], config: BuildConfig) -> InputError:
    total = sum(i["records"] for i in inputs)
    reasons = yields[0]["reasons"] if yields else {}
    if not total:
        return InputError("the inputs hold no record", where=", ".join(config.inputs))
    counts = ", ".join(f"{code} {n}" for code, n in reasons.items())
    hint = (
        f"raise seq_len (now {config.seq_len})"
        if "too_long" in reasons
        else "read the ledger for each row's reason"
    )
    return InputError(
        f"nothing left to train on: all {total} rows were refused ({counts})",
        where=", ".join(config.inputs),
        hint=hint,
    )
