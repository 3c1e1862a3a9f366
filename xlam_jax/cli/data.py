"""`xlam data ...`: look at Records. A further command stands in a module of its own and registers itself."""

from __future__ import annotations

import typer

from xlam_jax.cli.data_build import register_build
from xlam_jax.cli.data_show import register_show
from xlam_jax.cli.data_stats import register_stats

app = typer.Typer(
    help="Look at Records and turn them into training data.",
    epilog="Example: xlam data show configs/demo/records.jsonl --limit 1",
    no_args_is_help=True,
)

register_build(app)
register_stats(app)
register_show(app)
