"""Values written as source text read back as they were."""

import pytest

from xlam_jax.scoring.source_text import java_source, javascript_source
from xlam_jax.scoring.source_values import java_value, javascript_value


@pytest.mark.parametrize(
    ("value", "kind", "inner"),
    [
        (5, "integer", None),
        (-5, "long", None),
        (2.5, "float", None),
        (2.5, "double", None),
        (True, "boolean", None),
        ("a b", "String", None),
        ("anything", "any", None),
        ([1, 2], "ArrayList", "integer"),
        (["a", "b c"], "ArrayList", "String"),
        ([], "ArrayList", "String"),
        (["a", "b"], "Array", "String"),
        ([1.5, 2.5], "Array", "double"),
        ({"a": 1, "b": "x", "c": True, "d": 2.5}, "HashMap", None),
        ({}, "HashMap", None),
    ],
)
def test_java(value, kind, inner):
    text = java_source(value, kind, inner)
    read = java_value(text, kind, inner)
    assert isinstance(text, str) and read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("value", "kind", "inner"),
    [
        (5, "integer", None),
        (5, "Bigint", None),
        (2.5, "float", None),
        (False, "Boolean", None),
        ("a b", "String", None),
        (["a", "b"], "array", "String"),
        ([1, 2], "array", "integer"),
        ([[1, 2], [3, 4]], "array", None),
        ([0.6, 0.3], "array", "float"),
        ({"a": 1, "b": "x", "c": True}, "dict", None),
        ({}, "dict", None),
    ],
)
def test_javascript(value, kind, inner):
    text = javascript_source(value, kind, inner)
    read = javascript_value(text, kind, inner)
    assert isinstance(text, str) and read == value and type(read) is type(value)
