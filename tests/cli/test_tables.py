"""Tables on a narrow screen: within it, numbers whole, words broken where they are joined."""

import io

import pytest
from rich.console import Console

from xlam_jax.cli import common

MESHES = [
    {"mesh": mesh, "GiB": 75.8, "fits": "no", "compute s": 2.177, "beside s": 0.3621, "waited s": waited,
     "step s": 3.711, "tokens/s/device": 4415, "MFU %": 35.6}
    for mesh, waited in (("fsdp=8,expert=2", 0.05794), ("fsdp=4,expert=2,tensor=2", 0.0005592))
]  # fmt: skip
YIELD = [
    {"split": split, "generated": 247, "verified": 240, "fail format": 0, "fail execution": 7, "duplicates": 0,
     "pass rate": 0.9717}
    for split in ("train", "heldout")
]  # fmt: skip
NAMES = [
    {
        "name": "math.combinations",
        "value": "2.718281828459045",
        "reason": "fewer_than_two_tools",
        "words": "many " * 30,
    }
    for _ in range(2)
]


def printed(rows, width, monkeypatch):
    screen = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    monkeypatch.setattr(common, "out", screen)
    common.print_table("title", rows)
    return screen.file.getvalue().splitlines()


@pytest.mark.parametrize("rows", [MESHES, YIELD, NAMES], ids=["meshes", "yield", "names"])
@pytest.mark.parametrize("width", [80, 100, 200])
def test_words_and_numbers_stay_whole(rows, width, monkeypatch):
    lines = printed(rows, width, monkeypatch)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace("│", " ").replace("┃", " ").split()
    for row in rows:
        for key, value in row.items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            for piece in f"{key} {text}".replace(",", ", ").replace("_", "_ ").split():
                assert any(piece in word for word in words), (piece, lines)


def test_what_has_no_room_is_cut_and_nothing_is_lost(monkeypatch):
    lines = printed([{f"column{i}": f"value{i}" * 3 for i in range(12)}] * 2, 80, monkeypatch)
    assert max(map(len, lines)) <= 80
    columns = zip(*(line.strip("│").split("│") for line in lines if line.startswith("│")), strict=True)
    for i, cells in enumerate(columns):
        assert "".join(cells).replace(" ", "") == f"value{i}" * 6
