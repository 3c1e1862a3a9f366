"""Records as one HTML page: the trained text by token or span, calls, tools, lineage; searched in the page.

The page is `report.html` with one change: the JSON in its data block. JSON is written as ASCII with `<`, `>`
and `&` as escapes, so nothing a record says can end the block, and the page's script puts text into the
document as text only. Its content security policy allows that script, by hash, and no other.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from xlam_jax.files import write_text
from xlam_jax.format.call_formats import ParseError
from xlam_jax.format.codec import Codec, Rendered
from xlam_jax.format.record import Record
from xlam_jax.format.tools import python_type
from xlam_jax.format.values import Tool

KINDS = ("prompt", "assistant", "thought", "name", "arguments", "stop")
_DATA, _HASH = "__DATA__", "__SCRIPT_HASH__"
_BATCH = 64


def write_report(
    path: str | Path,
    records: Iterable[Record],
    codec: Codec,
    tokenizer: str | Path | None = None,
    title: str = "Records",
) -> dict[str, int]:
    """Writes the page, which appears under its name only when it is complete.

    Args:
      codec: writes the records; a record's style goes before it.
      tokenizer: folder of the tokenizer whose tokens and loss mask are shown; None shows characters.

    Returns:
      `{records, refused, tokens, trained}`; refused rows are shown, with the reason why `xlam data build`
      would drop them.

    Raises:
      InputError: a tokenizer that lacks the codec's stop token, or arguments that JSON cannot hold.
    """
    entries = report_entries(records, codec, tokenizer)
    counts: Counter[str] = Counter(records=len(entries), refused=0, tokens=0, trained=0)
    for entry in entries:
        counts["refused"] += "refused" in entry
        counts["tokens"] += entry.get("tokens", 0)
        counts["trained"] += entry.get("trained_tokens", 0)
    about = {
        "title": title,
        "codec": codec.name,
        "tokenizer": Path(tokenizer).name if tokenizer else "",
        **counts,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page({"about": about, "kinds": KINDS, "records": entries}))
    return dict(counts)


def page(data: dict[str, Any]) -> str:
    """The template with this data in it."""
    template = importlib.resources.files("xlam_jax.shards").joinpath("report.html").read_text("utf-8")
    script = template.split("<script>", 1)[1].split("</script>", 1)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    before, after = template.replace(_HASH, f"sha256-{digest}").split(_DATA)
    return before + island(data) + after


def island(data: Any) -> str:
    """JSON that is safe inside a script element, whatever the texts in it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def report_entries(
    records: Iterable[Record], codec: Codec, tokenizer: str | Path | None = None
) -> list[dict[str, Any]]:
    """One object a record, as the page's script reads it. Places are in UTF-16 units, as JavaScript counts.

    `record` (its JSON as text, because a browser would round its numbers), `id, source, license, query`
    (its beginning), `codec, call_format, text, bounds` and `kinds` (piece k ends at bounds[k] and is of that
    kind), `calls, tools, parses`. With a tokenizer: `token_ids` (of a cell: several where tokens share a
    character), `lengths` (of the cells), `trained` (numbers of the cells where it begins or ends),
    `tokens` and `trained_tokens`; in a row that would be refused also `refused`, the code and the reason.
    """
    entries, rows = [], []
    for record in records:
        styled = codec.styled(record.style)
        rendered = styled.render(record)
        entries.append(_entry(record, styled, rendered))
        rows.append((record, rendered, styled))
    if tokenizer:
        _add_tokens(entries, rows, str(tokenizer), codec)
    return entries


def _entry(record: Record, codec: Codec, rendered: Rendered) -> dict[str, Any]:
    places = _utf16(rendered.text)
    bounds, kinds = _pieces(rendered)
    called = {call.name for step in record.steps for call in step.tool_calls}
    return {
        "record": json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False),
        "id": record.id,
        "source": record.source or "unknown",
        "license": record.license or "unknown",
        "query": record.query.strip()[:200],
        "codec": codec.name,
        "call_format": codec.call_format,
        "text": rendered.text,
        "bounds": [places[b] for b in bounds],
        "kinds": kinds,
        "calls": [
            {"step": i, "name": c.name, "arguments": [[k, _json(v)] for k, v in c.arguments.items()]}
            for i, step in enumerate(record.steps, 1)
            for c in step.tool_calls
        ],
        "tools": [_tool(tool, tool.name in called) for tool in record.tools],
        "parses": _parses(record, codec, rendered),
    }


def _pieces(rendered: Rendered) -> tuple[list[int], list[int]]:
    """The text cut where the kind changes: (end of each piece, its kind), kinds as indices of `KINDS`."""
    edges = sorted({0, len(rendered.text)} | {x for s in rendered.spans for x in (s.start, s.end)})
    kind_at = dict.fromkeys(edges, 0)
    for span in rendered.spans:  # outer before inner
        if span.kind in KINDS:
            kind_at.update({e: KINDS.index(span.kind) for e in edges if span.start <= e < span.end})
    bounds: list[int] = []
    kinds: list[int] = []
    for start, end in pairwise(edges):
        if kinds and kinds[-1] == kind_at[start]:
            bounds[-1] = end
        else:
            bounds.append(end)
            kinds.append(kind_at[start])
    return bounds, kinds


def _parses(record: Record, codec: Codec, rendered: Rendered) -> bool:
    """Whether the codec reads the record's calls out of every answer."""
    contents = [rendered.text[s.start : s.end] for s in rendered.spans if s.kind == "content"]
    try:
        read = [codec.parse(text).tool_calls for text in contents]
    except ParseError:
        # A plain reply is no answer in a call format.
        return not any(step.tool_calls for step in record.steps)
    return read == [step.tool_calls for step in record.steps]


def _tool(tool: Tool, called: bool) -> dict[str, Any]:
    required = tool.parameters.get("required", ())
    parameters = []
    for name, schema in tool.parameters.get("properties", {}).items():
        schema = schema if isinstance(schema, dict) else {}
        notes = [str(schema.get("description", ""))]
        notes += [f"{key}: {_json(schema[key])}" for key in ("enum", "default") if key in schema]
        parameters.append([name, python_type(schema), name in required, "\n".join(n for n in notes if n)])
    return {"name": tool.name, "description": tool.description, "called": called, "parameters": parameters}


def _add_tokens(entries: list[dict[str, Any]], rows: list[Any], folder: str, codec: Codec) -> None:
    from xlam_jax.shards.tokenize import (
        EncodeError,
        Encoder,
        check_tokenizer,
        load_tokenizer,
        special_token_in,
        special_tokens,
    )

    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, codec, where=folder)
    encoder, specials = Encoder(tokenizer, where=folder), special_tokens(tokenizer)
    for at in range(0, len(rows), _BATCH):
        part = rows[at : at + _BATCH]
        encoded = encoder([(rendered, styled, f"record {r.id}") for r, rendered, styled in part])
        for entry, (record, rendered, _), row in zip(entries[at:], part, encoded, strict=False):
            if token := special_token_in(record, specials):
                what = f"the text spells the control token {token!r}"
                entry["refused"] = ["special_token_in_text", what]
            elif isinstance(row, EncodeError):
                entry["refused"] = [row.code, row.what]
            out = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
            weights = [0.0] * len(out["input_ids"]) if isinstance(row, EncodeError) else row.weights
            entry.update(_cells(rendered.text, out["input_ids"], out["offset_mapping"], weights))


def _cells(text: str, ids: list[int], offsets: list[tuple[int, int]], weights: Any) -> dict[str, Any]:
    """Tokens as cells that follow one another without a gap."""
    places = _utf16(text)
    ends: list[int] = []
    cells: list[Any] = []
    trained: list[int] = []
    for token, (_, end), weight in zip(ids, offsets, weights, strict=True):
        if ends and end <= ends[-1]:
            cells[-1] = [*cells[-1], token] if isinstance(cells[-1], list) else [cells[-1], token]
            trained[-1] |= int(weight != 0)
        else:
            cells.append(token)
            ends.append(end)
            trained.append(int(weight != 0))
    return {
        "token_ids": cells,
        "lengths": [places[end] - places[start] for start, end in zip([0, *ends], ends, strict=False)],
        "trained": [k for k, flag in enumerate(trained) if flag != (k > 0 and trained[k - 1])],
        "tokens": len(ids),
        "trained_tokens": sum(int(w != 0) for w in weights),
    }


def _utf16(text: str) -> Sequence[int]:
    """UTF-16 units before each character, and at the end."""
    if max(text, default="") <= "\uffff":
        return range(len(text) + 1)
    return list(accumulate((1 + (c > "\uffff") for c in text), initial=0))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
