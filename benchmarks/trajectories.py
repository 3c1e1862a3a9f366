"""What masking whole trajectories saves against one row per assistant turn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, print_table, working, write_json
from xlam_jax.cli.main import run
from xlam_jax.format.record import read_records
from xlam_jax.shards.build import CodecConfig
from xlam_jax.shards.tokenize import (
    EncodeError,
    Encoder,
    load_tokenizer,
    one_row_per_turn,
    special_token_in,
    special_tokens,
)

BATCH = 256


def bench_trajectories(path: Path, tokenizer: Path, codec: CodecConfig, seq_len: int) -> dict[str, Any]:
    """Counts the tokens that a model reads to train the same targets in two ways.

    The usual way makes a row of each assistant turn, with all that came before as context, and pads it to
    the row length; ours is one row a trajectory, packed. Attention is not counted.

    Args:
      path: Records.
      seq_len: row length for the padded count; trajectories that need more are left out, and counted.

    Returns:
      `records, turns, target_tokens, trajectory_tokens, turn_tokens, turn_tokens_padded, saved_percent`
      (of unpadded tokens) and `left_out{reason: n}`.

    Raises:
      InputError: the file or the tokenizer cannot be read.
    """
    loaded = load_tokenizer(tokenizer)
    encoder, specials, made = Encoder(loaded, str(tokenizer)), special_tokens(loaded), codec.make()
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    batch: list[Any] = []

    def flush() -> None:
        for row in encoder(batch, seq_len):
            if isinstance(row, EncodeError):
                left_out[row.code] += 1
                continue
            turns = one_row_per_turn(row)
            counts["records"] += 1
            counts["turns"] += len(turns)
            counts["target_tokens"] += int((row.weights != 0).sum())
            counts["trajectory_tokens"] += len(row.ids)
            counts["turn_tokens"] += sum(len(turn.ids) for turn in turns)
            assert sum(int((turn.weights != 0).sum()) for turn in turns) == int((row.weights != 0).sum())
        batch.clear()

    for record in read_records(path):
        if special_token_in(record, specials):
            left_out["special_token_in_text"] += 1
            continue
        styled = made.styled(record.style)
        batch.append((styled.render(record), styled, f"record {record.id}"))
        if len(batch) == BATCH:
            flush()
    flush()
    trajectory, turn = counts["trajectory_tokens"], counts["turn_tokens"]
    keys = ("records", "turns", "target_tokens", "trajectory_tokens", "turn_tokens")
    return {
        "path": str(path),
        **{key: counts[key] for key in keys},
        "turn_tokens_padded": counts["turns"] * seq_len,
        "saved_percent": round(100 * (1 - trajectory / turn), 1) if turn else 0.0,
        "left_out": dict(left_out.most_common()),
    }


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python benchmarks/trajectories.py configs/demo/records.jsonl --tokenizer runs/demo/base"
)
def main(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files of Records.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with the tokenizer.")],
    template: Annotated[str, typer.Option(help="Chat template.")] = "chatml",
    thought: Annotated[bool, typer.Option("--thought", help="Write thoughts before the calls.")] = False,
    seq_len: Annotated[int, typer.Option(min=2, help="Positions of a row.")] = 8192,
    json_file: JsonOption = None,
) -> None:
    """Count the tokens that training whole trajectories saves against one row per assistant turn."""
    codec = CodecConfig(template=template, thought=thought)
    with working("tokenising"):
        results = [bench_trajectories(path, tokenizer, codec, seq_len) for path in paths]
    write_json(json_file, results)
    print_table("the same targets, two ways", results)


if __name__ == "__main__":
    run(app)
