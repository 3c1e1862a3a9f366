"""`xlam data ...`: look at Records. A further command stands in a module of its own and registers itself."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xlam_jax.cli.common import JsonOption, out, write_json
from xlam_jax.cli.data_augment import register_augment
from xlam_jax.cli.data_build import register_build
from xlam_jax.cli.data_convert import register_convert
from xlam_jax.cli.data_verify import register_verify

if TYPE_CHECKING:
    from rich.text import Text

    from xlam_jax.format import Rendered

app = typer.Typer(
    help="Look at Records and turn them into training data.",
    epilog="Example: xlam data show configs/demo/records.jsonl --limit 1",
    no_args_is_help=True,
)

_STYLES = {
    "assistant": "on grey11",
    "thought": "yellow",
    "name": "bold cyan",
    "arguments": "green",
    "stop": "bold magenta",
}


register_augment(app)
register_build(app)
register_convert(app)
register_verify(app)


@app.command(epilog="Example: xlam data show configs/demo/records.jsonl --limit 1")
def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Records: JSONL, gzip when named .gz.")],
    limit: Annotated[int, typer.Option(min=1, help="How many records to show.")] = 3,
    call_format: Annotated[str, typer.Option(help="Call format.")] = "xlam-json",
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    layout: Annotated[str, typer.Option(help="Layout of the sections.")] = "brackets",
    thought: Annotated[bool, typer.Option("--thought", help="Write thoughts before the calls.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Shows records as the text a model is trained on: what it must write is coloured."""
    from rich.text import Text

    from xlam_jax.format import get_codec, read_records

    codec = get_codec(call_format, template, layout, thought)
    shown = []
    for record in islice(read_records(path), limit):
        rendered = codec.render(record)
        out.rule(Text(_printable(f"{record.id}  {record.source}".rstrip())))
        out.print(_coloured(rendered), soft_wrap=True)
        spans = [{"start": s.start, "end": s.end, "kind": s.kind, "step": s.step} for s in rendered.spans]
        shown.append({"id": record.id, "text": rendered.text, "spans": spans})
    legend = "  ".join(f"[{style}]{kind}[/]" for kind, style in _STYLES.items())
    out.print(f"{len(shown)} shown with {codec.name}; the model writes: {legend}")
    write_json(json_path, {"codec": codec.name, "records": shown})


def _coloured(rendered: Rendered) -> Text:
    from rich.text import Text

    text = Text(_printable(rendered.text), style="dim")
    for span in rendered.spans:
        if span.kind in _STYLES:
            text.stylize(f"not dim {_STYLES[span.kind]}", span.start, span.end)
    return text


def _printable(text: str) -> str:
    """Control characters as visible pictures, one for one: a record must not drive the terminal."""
    pictures = {c: 0x2400 + c for c in range(32) if c not in (9, 10)} | {127: 0x2421}
    return text.translate(pictures | dict.fromkeys(range(0x80, 0xA0), 0xFFFD))
