"""`xlam data show`: on the terminal, or as one HTML page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlam_jax.cli.common import JsonOption, need_output, out, working, write_json
from xlam_jax.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from xlam_jax.format import Codec, Record, Rendered

CallFormatOption = Annotated[str, typer.Option(help="Call format.")]
TemplateOption = Annotated[str, typer.Option(help="Chat template.")]
LayoutOption = Annotated[str, typer.Option(help="Layout of the sections.")]
ThoughtOption = Annotated[bool, typer.Option("--thought", help="Write thoughts before the calls.")]
PresetOption = Annotated[
    str, typer.Option(help="A released family's codec, in place of the four options before.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="FOLDER", help="A model, for its tokens and loss mask."),
]

_STYLES = {
    "assistant": "on grey11",
    "thought": "yellow",
    "name": "bold cyan",
    "arguments": "green",
    "stop": "bold magenta",
}
_LIMIT, _HTML_LIMIT = 3, 500


def register_show(app: typer.Typer) -> None:
    app.command("show", epilog="Example: xlam data show configs/demo/records.jsonl --html runs/show.html")(
        show
    )


def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Records: JSONL, gzip when named .gz.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"How many records: {_LIMIT}, in a page {_HTML_LIMIT}.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many records first.")] = 0,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this record; may be repeated.")] = None,
    grep: Annotated[
        str, typer.Option(metavar="REGEX", help="Only records whose text, source or licence matches.")
    ] = "",
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page.")] = None,
    tokenizer: TokenizerOption = None,
    call_format: CallFormatOption = "xlam-json",
    template: TemplateOption = "chatml",
    layout: LayoutOption = "brackets",
    thought: ThoughtOption = False,
    preset: PresetOption = "",
    json_path: JsonOption = None,
) -> None:
    """Shows records as the text a model is trained on: what it must write is coloured.

    With --html, as one self-contained page to search, filter and browse; --tokenizer shows its tokens.
    """
    from xlam_jax.format import get_codec, read_records

    if preset:
        from xlam_jax.format.presets import get_preset

        if (call_format, template, layout, thought) != ("xlam-json", "chatml", "brackets", False):
            raise InputError(
                "a preset leaves no choice of call format, template, layout or thought", where="--preset"
            )
        codec = get_preset(preset).codec
    else:
        codec = get_codec(call_format, template, layout, thought)
    selected = select(read_records(path), codec, ids or (), grep)
    chosen = islice(selected, offset, offset + (limit or (_HTML_LIMIT if html else _LIMIT)))
    if html:
        from xlam_jax.shards.report_html import write_report

        need_output(html, path)
        with working("writing the page"):
            counts = write_report(html, chosen, codec, tokenizer, title=path.name)
        refused = f", {counts['refused']} that a build would refuse" if tokenizer else ""
        out.print(f"{html}: {counts['records']} records{refused}", highlight=False)
        write_json(json_path, {"codec": codec.name, "html": str(html), **counts})
        return
    shown = []
    for record in chosen:
        for rendered in codec.styled(record.style).texts(record):
            _print_record(record, rendered)
            spans = [{"start": s.start, "end": s.end, "kind": s.kind, "step": s.step} for s in rendered.spans]
            shown.append({"id": record.id, "text": rendered.text, "spans": spans})
    from rich.text import Text

    legend = Text("  ").join(Text(kind, style=style) for kind, style in _STYLES.items())
    out.print(Text(f"{len(shown)} shown with {codec.name}; the model writes: ").append_text(legend))
    write_json(json_path, {"codec": codec.name, "records": shown})


def select(records: Iterable[Record], codec: Codec, ids: Iterable[str], grep: str) -> Iterator[Record]:
    """The records of these ids (all, without ids) in which `grep`, a regular expression, is found.

    Raises:
      InputError: `grep` is no regular expression.
    """
    wanted = frozenset(ids)
    try:
        pattern = re.compile(grep, re.IGNORECASE)
    except re.error as e:
        raise InputError(f"not a regular expression: {e}", where=f"--grep {grep}") from None
    for record in records:
        if wanted and record.id not in wanted:
            continue
        if grep:
            text = codec.styled(record.style).render(record).text
            if not pattern.search(f"{record.id}\n{record.source}\n{record.license}\n{text}"):
                continue
        yield record


def _print_record(record: Record, rendered: Rendered) -> None:
    from rich.text import Text

    out.rule(Text(printable(f"{record.id}  {record.source}".rstrip())))
    out.print(coloured(rendered), soft_wrap=True)


def coloured(rendered: Rendered) -> Text:
    """The text with its spans coloured, character for character."""
    from rich.text import Text

    text = Text(printable(rendered.text), style="dim")
    for span in rendered.spans:
        if span.kind in _STYLES:
            text.stylize(f"not dim {_STYLES[span.kind]}", span.start, span.end)
    return text


def printable(text: str) -> str:
    """Control characters as visible pictures, one for one: a record must not drive the terminal.

    Characters that break a line or turn the reading direction are shown as unknown ones.
    """
    pictures = {c: 0x2400 + c for c in range(32) if c not in (9, 10)} | {127: 0x2421}
    hidden = (*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
    return text.translate(pictures | dict.fromkeys(hidden, 0xFFFD))
