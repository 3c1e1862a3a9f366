"""Call formats: how tool calls are written as text, read back, constrained and asked for.

A format is one object with the methods of `CallFormat`, in a module of this package, and its entry in
`CALL_FORMATS`.
"""

from __future__ import annotations

from xlam_jax.format.call_formats.base import Answer, CallFormat, ParseError, Piece, StreamParser
from xlam_jax.format.call_formats.json_array import JsonArray
from xlam_jax.format.call_formats.json_formats import JsonLines, OpenAI, XlamJson
from xlam_jax.format.call_formats.key_value import KeyValue
from xlam_jax.format.call_formats.prose_formats import Hermes, Markdown, Mistral
from xlam_jax.format.call_formats.python_calls import PythonCalls, PythonList
from xlam_jax.format.call_formats.react import React
from xlam_jax.format.call_formats.toml_tables import Toml
from xlam_jax.format.call_formats.xml import XmlAttributes, XmlElements
from xlam_jax.format.call_formats.yaml_blocks import Yaml

__all__ = ["CALL_FORMATS", "Answer", "CallFormat", "ParseError", "Piece", "StreamParser"]

_FORMATS: tuple[CallFormat, ...] = (
    XlamJson(),
    JsonArray(),
    OpenAI(),
    JsonLines(),
    Hermes(),
    Mistral(),
    Markdown(),
    Yaml(),
    XmlElements(),
    XmlAttributes(),
    PythonCalls(),
    PythonList(),
    React(),
    KeyValue(),
    Toml(),
)
CALL_FORMATS = {form.name: form for form in _FORMATS}
