"""Tasks of the weather twin."""

from __future__ import annotations

import datetime
import random
from typing import Any

from xlam_jax.evaluation.agents.toolquery.gold import Again, Draft, yes
from xlam_jax.evaluation.agents.toolquery.names import PLACES
from xlam_jax.evaluation.agents.toolquery.weather import YEAR


def setting(rng: random.Random) -> dict[str, Any]:
    """A day with room before and after it, and a place."""
    date = datetime.date(YEAR, 2, 1) + datetime.timedelta(rng.randrange(300))
    return {"current_date": date.isoformat(), "current_location": rng.choice(PLACES)}


def _at(draft: Draft, place: str) -> dict[str, float]:
    position = draft.call("get_latitude_longitude", name=place)
    return {key: position[key] for key in ("latitude", "longitude")}


def _here(draft: Draft) -> dict[str, float]:
    return _at(draft, draft.call("get_user_current_location"))


def _span(draft: Draft, first: int, last: int) -> dict[str, str]:
    """Days counted from today, which is asked for."""
    today = datetime.date.fromisoformat(draft.call("get_user_current_date"))
    days = ((today + datetime.timedelta(n)).isoformat() for n in (first, last))
    return dict(zip(("start_date", "end_date"), days, strict=True))


def _best(days: list[dict[str, Any]], key: str, highest: bool) -> dict[str, Any]:
    values = [day[key] for day in days]
    best = max(values) if highest else min(values)
    if values.count(best) > 1:
        raise Again
    return days[values.index(best)]


def mean_of_a_past_day(draft: Draft) -> tuple[str, Any]:
    place, ago = draft.rng.choice(PLACES), draft.rng.randint(2, 9)
    span = _span(draft, -ago, -ago)
    (day,) = draft.call("get_historical_temp", **_at(draft, place), **span)["days"]
    return f"What was the mean temperature in {place} {ago} days ago, in degrees? Answer with a number.", day[
        "mean"
    ]


def high_of_tomorrow_here(draft: Draft) -> tuple[str, Any]:
    span = _span(draft, 1, 1)
    (day,) = draft.call("get_temp_forecast", **_here(draft), **span)["days"]
    return "How warm will it get where I am tomorrow, at most? Answer with a number, in degrees.", day["max"]


def which_is_higher(draft: Draft) -> tuple[str, Any]:
    places = draft.rng.sample(PLACES, 2)
    heights = [draft.call("get_elevation", **_at(draft, place))["elevation_m"] for place in places]
    if heights[0] == heights[1]:
        raise Again
    goal = f"Which of {places[0]} and {places[1]} lies higher above the sea? Answer with its name."
    return goal, places[heights.index(max(heights))]


def distance_of_two(draft: Draft) -> tuple[str, Any]:
    places = draft.rng.sample(PLACES, 2)
    ends = [_at(draft, place) for place in places]
    both = {f"{key}{n}": end[key] for n, end in enumerate(ends, 1) for key in ("latitude", "longitude")}
    goal = f"How far is it from {places[0]} to {places[1]}? Answer with a number, in whole kilometres."
    return goal, draft.call("get_distance", **both)


def rainy_days(draft: Draft) -> tuple[str, Any]:
    place, count = draft.rng.choice(PLACES), draft.rng.randint(4, 10)
    span = _span(draft, -count, -1)
    days = draft.call("get_historical_rain", **_at(draft, place), **span)["days"]
    goal = f"On how many of the last {count} days, today not counted, did it rain in {place}? Answer with a number."
    return goal, sum(day["rain"] > 0 for day in days)


def snow_to_come(draft: Draft) -> tuple[str, Any]:
    place, count = draft.rng.choice(PLACES), draft.rng.randint(3, 7)
    span = _span(draft, 1, count)
    days = draft.call("get_snow_forecast", **_at(draft, place), **span)["days"]
    total = round(sum(day["snow"] for day in days), 1)
    if not total:
        raise Again
    goal = f"How much snow will fall in {place} in the next {count} days, without today? Answer with a number, in cm."
    return goal, total


def air_now(draft: Draft) -> tuple[str, Any]:
    place = draft.rng.choice(PLACES)
    date = draft.call("get_user_current_date")
    index = draft.call("get_current_air_quality_index", **_at(draft, place), current_date=date)["air"]
    level = draft.call("get_air_quality_level", air_quality_index=index)
    return f"How good is the air in {place} today? Answer with the name of the level.", level


def rain_at_a_code(draft: Draft) -> tuple[str, Any]:
    number = draft.rng.randrange(len(PLACES))
    code = str(10000 + 137 * number)
    address = draft.call("convert_zipcode_to_address", zipcode=code)
    place = address.split(", ")[1]
    date = draft.call("get_user_current_date")
    rain = draft.call("get_current_rain", **_at(draft, place), current_date=date)["rain"]
    draft.balance(rain > 0)
    return (
        f"How much does it rain today in the town with the postal code {code}? Answer with a number, in mm.",
        rain,
    )


def warmest_day_here(draft: Draft) -> tuple[str, Any]:
    count = draft.rng.randint(4, 12)
    span = _span(draft, -count, -1)
    days = draft.call("get_historical_temp", **_here(draft), **span)["days"]
    goal = (
        f"Which of the last {count} days before today had the highest temperature where I am? "
        "Answer with the date, YYYY-MM-DD."
    )
    return goal, _best(days, "max", True)["date"]


def colder_yesterday(draft: Draft) -> tuple[str, Any]:
    places = draft.rng.sample(PLACES, 2)
    span = _span(draft, -1, -1)
    lows = [draft.call("get_historical_temp", **_at(draft, p), **span)["days"][0]["min"] for p in places]
    if lows[0] == lows[1]:
        raise Again
    goal = (
        f"Was yesterday's lowest temperature lower in {places[0]} than in {places[1]}? Answer with Yes or No."
    )
    return goal, yes(lows[0] < lows[1])


def worst_air(draft: Draft) -> tuple[str, Any]:
    place, count = draft.rng.choice(PLACES), draft.rng.randint(4, 9)
    span = _span(draft, -count, -1)
    days = draft.call("get_historical_air_quality_index", **_at(draft, place), **span)["days"]
    worst = _best(days, "air", True)["air"]
    level = draft.call("get_air_quality_level", air_quality_index=worst)
    goal = (
        f"How bad was the air in {place} at its worst in the last {count} days, today not counted? "
        "Answer with the name of the level."
    )
    return goal, level


def warmer_than_a_week_ago(draft: Draft) -> tuple[str, Any]:
    at = _here(draft)
    span = _span(draft, -7, -7)
    then = draft.call("get_historical_temp", **at, **span)["days"][0]["mean"]
    today = draft.call("get_current_temp", **at, current_date=draft.setting["current_date"])["mean"]
    goal = (
        "How many degrees warmer is today's mean temperature where I am than that of a week ago? "
        "Answer with a number, negative if it is colder."
    )
    draft.balance(today > then)
    return goal, round(today - then, 1)


TEMPLATES = (
    mean_of_a_past_day, high_of_tomorrow_here, which_is_higher, distance_of_two, rainy_days, snow_to_come, air_now,
    rain_at_a_code, warmest_day_here, colder_yesterday, worst_air, warmer_than_a_week_ago,
)  # fmt: skip
