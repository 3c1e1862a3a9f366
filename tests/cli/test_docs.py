"""The how-tos are run as typed."""

import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["data.md", "launch.md", "plan-and-bench.md", "adapters.md"])
def test_commands_of_a_how_to_work_as_typed(name, world, xlam, at, tmp_path):
    at(tmp_path)
    (tmp_path / "configs").symlink_to((world / "configs").resolve())
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "runs/demo/base").symlink_to(world / "runs/demo/base")
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)
    typed = [line for block in blocks for line in block.splitlines() if line.startswith("xlam ")]
    assert len(typed) >= 5
    for line in typed:
        got = xlam(*shlex.split(line)[1:])
        assert got.code == 0, f"{line}\n{got.out[-500:]}\n{got.err}"
