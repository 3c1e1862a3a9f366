"""The call formats that are text and not JSON as a whole."""

from __future__ import annotations

from xlam_jax.format.call_formats.key_value import KeyValue
from xlam_jax.format.call_formats.python_calls import PythonCalls, PythonList
from xlam_jax.format.call_formats.react import React

TEXT_FORMATS = (PythonCalls(), PythonList(), React(), KeyValue())
