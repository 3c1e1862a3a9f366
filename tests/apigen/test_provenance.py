"""What people write for a value is read back as that value, and as no other; what we write is read back too."""

import datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlam_jax.apigen.offline import written
from xlam_jax.apigen.offline.provenance import trace, trace_call, unit_of
from xlam_jax.apigen.offline.readings import readings
from xlam_jax.format import Tool, ToolCall

DAYS = {"type": "integer", "description": "Number of days."}
MINUTES = {"type": "number", "description": "Length in minutes."}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}


@pytest.mark.parametrize(
    ("query", "name", "schema", "value", "span"),
    [
        ("Book it for two weeks.", "days", DAYS, 14, "two weeks"),
        ("Forecast for the next fortnight?", "days", DAYS, 14, "the next fortnight"),
        ("Run half a mile.", "distance", NUMBER, 0.5, "half a"),
        ("Since Jan 5th 2024", "date", TEXT, "2024-01-05", "Jan 5th 2024"),
        ("Since the 5th of January 2024", "date", TEXT, "01/05/2024", "5th of January 2024"),
        ("Around 5k steps", "steps", {"type": "integer"}, 5000, "5k"),
        ("$1.5 million in cash", "amount", NUMBER, 1_500_000, "$1.5 million"),
        ("1,250,000 rows", "rows", {"type": "integer"}, 1_250_000, "1,250,000"),
        ("a 15% rate", "rate", NUMBER, 0.15, "15%"),
        ("a 15% rate", "rate", NUMBER, 15, "15"),
        ("two and a half hours", "minutes", MINUTES, 150, "two and a half hours"),
        ("an hour", "timeout_ms", NUMBER, 3_600_000, "an hour"),
        ("at a quarter past three pm", "time", TEXT, "15:15", "quarter past three pm"),
        ("at 3:15 p.m. sharp", "time", TEXT, "15:15:00", "3:15 p.m."),
        ("Today is 2026-11-30. Wake me tomorrow.", "date", TEXT, "2026-12-01", "tomorrow"),
        ("It's Monday, November 30, 2026. Due in three days.", "date", TEXT, "2026-12-03", "in three days"),
        ("Today is 2026-11-30: next Friday", "date", TEXT, "2026-12-04", "next Friday"),
        ("a dozen eggs", "count", {"type": "integer"}, 12, "a dozen"),
        ("one hundred and five", "n", {"type": "integer"}, 105, "one hundred and five"),
        ("three quarters of it", "share", NUMBER, 0.75, "three quarters"),
        ("minus 3: x=-3", "x", {"type": "integer"}, -3, "-3"),
        ("newest first please", "order", {"type": "string"}, "desc", "newest first"),
        ("compare BTC and ETH", "symbols", TEXT, "BTC,ETH", "BTC and ETH"),
        ("on 2024-05-01 at 10:00", "when", TEXT, "2024-05-01T10:00:00Z", "2024-05-01 at 10:00"),
    ],
)  # fmt: skip
def test_a_value_in_other_words_is_found_where_it_stands(query, name, schema, value, span):
    found = trace(value, schema, name, query)
    assert found is not None
    assert query[found.start : found.end] == span


@pytest.mark.parametrize(
    ("query", "name", "schema", "value"),
    [
        ("Book it for three weeks.", "days", DAYS, 14),
        ("Book it for two weeks.", "week", {"type": "integer"}, 14),
        ("Run half a mile.", "distance", NUMBER, 0.25),
        ("Since Jan 6th 2024", "date", TEXT, "2024-01-05"),
        ("Wake me tomorrow.", "date", TEXT, "2026-12-01"),
        ("start", "name", TEXT, "art"),
        ("between five and ten", "n", {"type": "integer"}, 15),
        ("at 3:15 am", "time", TEXT, "15:15"),
        ("5 and 3", "x", {"type": "integer"}, -3),
    ],
)
def test_a_value_that_was_not_said_is_not_found(query, name, schema, value):
    assert trace(value, schema, name, query) is None


def test_language_and_country_codes_stand_for_their_names():
    pytest.importorskip("babel")
    assert trace("fr", TEXT, "language", "Say it in French.") is not None
    assert trace("DE", TEXT, "country", "news from Germany") is not None
    assert trace("JPY", TEXT, "currency", "in Japanese Yen") is not None
    assert trace("fr", TEXT, "language", "Say it in German.") is None


def test_every_leaf_of_a_call_has_its_span_or_is_lost():
    tool = Tool("book", "Books.", {"type": "object", "properties": {
        "guests": {"type": "array", "items": {"type": "string"}}, "days": DAYS, "room": {"enum": ["a", "b"]},
        "late": {"type": "boolean"},
    }})  # fmt: skip
    call = ToolCall("book", {"guests": ["Ann", "Bob"], "days": 7, "room": "a", "late": True})
    spans, lost = trace_call(call, tool, "Book a week for Ann and Bob.")
    assert {s.path for s in spans} >= {"guests.0", "guests.1", "days"}
    assert lost == []
    assert trace_call(call, tool, "Book a week for Ann.")[1] == ["guests.1"]


@given(
    value=st.one_of(
        st.integers(0, 10**9), st.integers(1, 99), st.integers(1, 400).map(lambda n: n * 1000),
        st.floats(0.001, 1e6).map(lambda x: float(f"{x:.4g}")), st.integers(1, 25).map(lambda n: n / 2),
    ),
    name=st.sampled_from(["days", "hours", "minutes", "seconds", "months", "weeks", "count", "timeout_ms"]),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_numbers_as_we_write_them_are_read_back(value, name, seed):
    said = written.number(value, unit_of(name, {}), Random(seed))
    for query in (f"Take {said}.", f"{said}, please", f"it is ({said})"):
        found = trace(value, {}, name, query)
        assert found is not None, said
        assert query[found.start : found.end].strip("$ ") in said


@given(day=st.dates(datetime.date(1950, 1, 1), datetime.date(2090, 12, 31)), seed=st.integers(0, 10**6))
def test_days_as_we_write_them_are_read_back(day, seed):
    said = written.date(day, Random(seed))
    assert trace(day.isoformat(), {}, "date", f"On {said} it is due.") is not None, said


@given(day=st.integers(-30, 30), seed=st.integers(0, 10**6))
def test_days_by_their_distance_are_read_back(day, seed):
    today = datetime.date(2026, 11, 30)
    then = today + datetime.timedelta(day)
    said = written.relative(then, today, Random(seed))
    if said:
        query = f"Today is {written.date(today, Random(seed))}. It is due {said}."
        values = [r.value for r in readings(query) if query[r.start : r.end] in said and r.form == "relative"]
        assert then in values, said


@given(minutes=st.integers(0, 1439), seed=st.integers(0, 10**6))
def test_clock_times_as_we_write_them_are_read_back(minutes, seed):
    clock = datetime.time(minutes // 60, minutes % 60)
    said = written.time(clock, Random(seed))
    assert trace(clock.strftime("%H:%M"), {}, "time", f"at {said} sharp") is not None, said
