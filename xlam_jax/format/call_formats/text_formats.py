"""The call formats that are text and not JSON as a whole."""

from __future__ import annotations

from xlam_jax.format.call_formats.key_value import KeyValue
from xlam_jax.format.call_formats.python_calls import PythonCalls, PythonList
from xlam_jax.format.call_formats.react import React
from xlam_jax.format.call_formats.toml_tables import Toml
from xlam_jax.format.call_formats.xml import XmlAttributes, XmlElements
from xlam_jax.format.call_formats.yaml_blocks import Yaml

TEXT_FORMATS = (
    Yaml(),
    XmlElements(),
    XmlAttributes(),
    PythonCalls(),
    PythonList(),
    React(),
    KeyValue(),
    Toml(),
)
