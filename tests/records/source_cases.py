"""What the tests of sources share: one row through a converter, and a tool that fits most rows."""

import json

import pytest

from xlam_jax.format.record import Record
from xlam_jax.format.values import Tool
from xlam_jax.records.sources import get_source
from xlam_jax.records.sources.values import Refused, Row

WEATHER_JSON = {
    "name": "get_weather",
    "description": "Weather now.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
WEATHER = Tool("get_weather", "Weather now.", WEATHER_JSON["parameters"])


def made(source, row):
    """The Record (or Pair) of one native row, which travels as a JSON line and is valid by the schema."""
    record = get_source(source).convert(Row("rows.jsonl:1", raw=json.dumps(row).encode()))
    if isinstance(record, Record):
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record
    return record


def refusal(source, row):
    """The code with which a native row is refused."""
    with pytest.raises(Refused) as error:
        get_source(source).convert(Row("rows.jsonl:1", raw=json.dumps(row).encode()))
    return error.value.code
