"""Call formats: how tool calls are written as text, read back, constrained and asked for.

A format is one object with the methods of `CallFormat`, in a module of this package, and its entry in
`CALL_FORMATS`.
"""

from __future__ import annotations

from xlam_jax.format.call_formats.base import Answer, CallFormat, ParseError, Piece
from xlam_jax.format.call_formats.xlam_json import XlamJson

__all__ = ["CALL_FORMATS", "Answer", "CallFormat", "ParseError", "Piece"]

CALL_FORMATS: dict[str, CallFormat] = {f.name: f for f in (XlamJson(),)}
