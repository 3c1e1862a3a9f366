"""Whether a text is a whole sentence of a grammar, by llguidance over single bytes as tokens."""

import functools

import pytest


class _Bytes:
    """A tokenizer of 256 bytes and an end, in the shape llguidance asks for."""

    tokens = (*(bytes([i]) for i in range(256)), b"<eos>")
    eos_token_id, bos_token_id = 256, None
    special_token_ids = (256,)

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


@functools.cache
def _vocabulary():
    llguidance = pytest.importorskip("llguidance")
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))


@functools.lru_cache(maxsize=64)
def _compiled(fragment):
    import llguidance

    matcher = llguidance.LLMatcher(_vocabulary(), "start: answer\n" + fragment)
    assert not matcher.get_error(), matcher.get_error()
    return matcher


def accepts(fragment, text):
    """Whether `text` is all of the fragment's rule `answer`."""
    _vocabulary()
    matcher = _compiled(fragment).deep_copy()
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()
