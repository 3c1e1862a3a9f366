"""`xlam data ...`: from raw data to training data. Each command stands in a module of its own."""

from __future__ import annotations

import typer

from xlam_jax.cli.data_augment import register_augment
from xlam_jax.cli.data_build import register_build
from xlam_jax.cli.data_convert import register_convert
from xlam_jax.cli.data_reference import register_reference
from xlam_jax.cli.data_show import register_show
from xlam_jax.cli.data_stats import register_stats
from xlam_jax.cli.data_verify import register_verify
from xlam_jax.cli.data_weight import register_weight

app = typer.Typer(
    help="Convert, verify, augment and look at Records, and turn them into training data.",
    epilog="Example: xlam data show configs/demo/records.jsonl --limit 1",
    no_args_is_help=True,
)

for _register in (
    register_convert,
    register_verify,
    register_augment,
    register_build,
    register_reference,
    register_stats,
    register_show,
    register_weight,
):
    _register(app)
