"""The call formats that are text and not JSON as a whole."""

from __future__ import annotations

from xlam_jax.format.call_formats.python_calls import PythonCalls, PythonList

TEXT_FORMATS = (PythonCalls(), PythonList())
