"""Piece by piece gives the ids of the whole text, for texts made to break it and tokenizers of all kinds."""

import random

import pytest
from tokenizers import AddedToken

from tests import real_tokenizers, tiny_run
from tests.cases import long_but
from xlam_jax.shards.pieces import Pieces
from xlam_jax.shards.tokenize import load_tokenizer

_PLACES = [
    " a",
    "a ",
    ". ",
    ", ",
    "\u0301",
    " \u0301",
    "}, {",
    ": ",
    " [",
    " (",
    ") ",
    "},",
    ' {"',
    "]",
    "\n",
    "\n\n",
    "[",
    "]\n\n[",
    '"}]',
    "}, {",
    "]\n",
    "\r\n",
    " ",
    "\t",
    "\u00a0",
]
PARTS = [*_PLACES, "name", "BEGIN OF", "1", "23", "é", "日本", "'s", "'", ".", "-", "A", "🙂"]


@pytest.mark.parametrize(
    "kind",
    long_but(
        ["tiny", "smollm2", "mistral"],
        ["tiny", "smollm2", "llama3", "mistral", "qwen-2.5", "deepseek-coder-7b-base-v1.5"],
    ),
)
def test_pieces_are_the_whole(kind, tmp_path):
    made = {
        "tiny": lambda: tiny_run.make_tokenizer(tmp_path / "t"),
        "smollm2": lambda: real_tokenizers.smollm2(tmp_path / "t"),
        "llama3": lambda: real_tokenizers.llama3(tmp_path / "t"),
        "mistral": lambda: real_tokenizers.mistral("v1", tmp_path / "t"),
    }
    folder = made[kind]() if kind in made else real_tokenizers.counted(kind, tmp_path / "t")
    backend = load_tokenizer(folder).backend_tokenizer
    pieces, r = Pieces(backend), random.Random(0)
    texts = ["".join(r.choices(PARTS, k=r.randint(0, 25))) for _ in range(1500)]
    got = pieces(texts[:700]) + pieces(texts[700:])
    for text, ids in zip(texts, got, strict=True):
        assert ids.tolist() == backend.encode(text, add_special_tokens=False).ids, text
    known = len(pieces.distinct)
    assert (known > len(texts)) == (kind != "mistral")  # which takes a whole text for a word
    assert [a.tolist() for a in pieces(texts)] == [a.tolist() for a in got]
    assert len(pieces.distinct) == known


def test_a_token_that_takes_blanks_is_never_cut(tmp_path):
    """Added tokens are found before the words are: one that takes the blank behind it, or holds one."""
    for token in (AddedToken("<t>a", rstrip=True), AddedToken("go to"), AddedToken("to ")):
        backend = load_tokenizer(tiny_run.make_tokenizer(tmp_path / "t")).backend_tokenizer
        backend.add_tokens([token])
        texts = ["we go to <t>a there", "go to", "to  go to a", "a <t>a a <t>a"]
        wanted = [backend.encode(text, add_special_tokens=False).ids for text in texts]
        assert [ids.tolist() for ids in Pieces(backend)(texts)] == wanted, token
