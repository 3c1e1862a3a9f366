"""Our own wordings of format instructions, recognised by their letters: whitespace tells no two apart."""

from __future__ import annotations

import functools

from xlam_jax.format.call_formats import CALL_FORMATS


def letters(text: str) -> str:
    """The text without whitespace."""
    return "".join(text.split())


def counterpart(text: str, call_format: str, thought: bool) -> str:
    """Our wording for answers with or without a thought, where `text` is the one for the other kind; else `text`."""
    return _counterparts(call_format, thought).get(letters(text), text) if text else text


@functools.cache
def _counterparts(call_format: str, thought: bool) -> dict[str, str]:
    form = CALL_FORMATS[call_format]
    return dict(zip(map(letters, form.instructions(not thought)), form.instructions(thought), strict=True))
