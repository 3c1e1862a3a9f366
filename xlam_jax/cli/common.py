"""What every command shares: consoles, tables, `--json`, and errors on one screen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xlam_jax.errors import InputError

# No markup anywhere: a path, a name or a sentence of the data may hold [/x], which is no style, or :x:.
out = Console(markup=False, emoji=False)
err = Console(stderr=True, markup=False, emoji=False)


def _json_place(path: Path | None) -> Path | None:
    """Refuses before the work what `write_json` could not write after it."""
    return path and _need_place(path, "--json")


JsonOption = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Also write the result as JSON to FILE.", callback=_json_place
    ),
]


def say(text: str) -> None:
    """Prints a line as it is; a path in it can be copied, however long it is."""
    out.print(text, highlight=False, soft_wrap=True)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Shows a spinner beside `text` until the block ends; yields what changes the text."""
    with err.status(Text(text)) as status:
        yield lambda now: status.update(Text(now))


def write_json(path: Path | None, result: Any) -> None:
    """Writes `result` to `path` when one was asked for."""
    if path is None:
        return
    from xlam_jax.files import room_on_disk

    with room_on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Prints a list of equal-keyed dicts; numbers to the right.

    One that is wider than the screen breaks its words where they are joined and never a number, as long as that is
    enough; a single such row is printed as a list.
    """
    if not rows:
        out.print(f"{title}: nothing")
        return
    table = _table(title, rows)
    if Measurement.get(out, out.options.update(max_width=10_000), table).maximum > out.width:
        if len(rows) == 1:
            rows = [{"": key, "value": _cell(value)} for key, value in rows[0].items()]
        rows = [{str(k).replace("_", " "): v for k, v in row.items()} for row in rows]
        table = _table(title, rows, out.width)
    out.print(table)


def _table(title: str, rows: list[dict[str, Any]], width: int | None = None) -> Table:
    cells = {key: [str(key), *(_cell(row.get(key)) for row in rows)] for key in rows[0]}
    widths, padding = None, 1
    for padding in (1, 0) if width else ():
        if widths := _widths(list(cells.values()), width or 0, padding):
            break
    table = Table(title=title, title_justify="left", padding=(0, padding if widths else 1))
    for i, key in enumerate(cells):
        numeric = all(isinstance(r.get(key), int | float) or r.get(key) is None for r in rows)
        fixed = widths[i] if widths else None
        if fixed:
            cells[key] = [_broken(text, fixed) for text in cells[key]]
        table.add_column(
            Text(cells[key][0]), justify="right" if numeric else "left", overflow="fold", width=fixed
        )
    for line in zip(*(texts[1:] for texts in cells.values()), strict=True):
        # As Text: a name such as [/x] is no markup.
        table.add_row(*map(Text, line))
    return table


# Where a word may be broken: behind these, but not inside a number.
_PIECES = re.compile(r"[-+]?\d(?:[\d.:eE+-]|,(?=\d))*[^\s_,/.-]*[_,/.-]?\s?|[^\s_,/.-]*[_,/.-]?\s?")


def _pieces(text: str) -> list[str]:
    return [piece for piece in _PIECES.findall(text) if piece]


def _widths(columns: list[list[str]], width: int, padding: int) -> list[int] | None:
    """Widths that break no piece of a word, together as wide as the screen; None where there is no room for that."""
    most = [max(cell_len(line) for text in c for line in text.splitlines() or [""]) for c in columns]
    least = [max((cell_len(p.rstrip()) for text in c for p in _pieces(text)), default=0) for c in columns]
    left = width - (1 + 2 * padding) * len(columns) - 1 - sum(least)
    if left < 0:
        return None
    for i in sorted(range(len(columns)), key=lambda i: most[i] - least[i]):
        # What a column wants first goes to those that want least.
        given = min(most[i] - least[i], left)
        least[i], left = least[i] + given, left - given
    return [max(1, w) for w in least]


def _broken(text: str, width: int) -> str:
    """The text in lines of at most `width`, broken between its pieces."""
    lines = []
    for given in text.splitlines() or [""]:
        line = ""
        for piece in _pieces(given):
            if line and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "-"
    return str(value)


def need_file(path: Path, what: str) -> Path:
    """Returns `path`, or raises InputError when it is no file."""
    if not path.is_file():
        raise InputError(f"{what} not found", where=str(path), hint="check the path")
    return path


def need_output(path: Path, *sources: Path) -> Path:
    """Returns `path`, or raises InputError when writing it would replace a folder or one of its sources."""
    _need_place(path, "OUT")
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError("OUT is the same file as IN", where=str(path), hint="another name for OUT")
    return path


def _need_place(path: Path, what: str) -> Path:
    from xlam_jax.files import file_above

    if path.is_dir():
        raise InputError(f"{what} is a folder", where=str(path), hint="the name of a file")
    if file := file_above(path):
        raise InputError(f"{what} lies below a file, {file.name}", where=str(path), hint="another name")
    return path


def need_dir(path: Path, what: str) -> Path:
    """Returns `path`, or raises InputError when it is no folder."""
    if not path.is_dir():
        raise InputError(f"{what} not found", where=str(path), hint="check the path")
    return path


EngineOption = Annotated[str, typer.Option("--engine", help="Where rows are worked on: local or ray.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Processes; 0 is one a core.")]
AddressOption = Annotated[
    str,
    typer.Option("--ray-address", help="A running Ray cluster, such as 10.0.0.1:6379; else one is started."),
]


def need_apart(dst: Path, **sources: Path) -> None:
    """Raises InputError when writing `dst` would replace a source, or lies in the way of the work beside it."""
    taken = {dst.with_name(dst.name + suffix).resolve() for suffix in ("", ".partial", ".replaced")}
    for name, source in sources.items():
        place = source.resolve()
        if taken.intersection((place, *place.parents)):
            raise InputError(f"DST would replace {name}", where=f"{dst}, {source}", hint="name another DST")
