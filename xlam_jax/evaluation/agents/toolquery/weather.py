"""The weather twin: invented places, a year of invented days, and what AgentBoard's weather functions tell of them."""

from __future__ import annotations

import datetime
import random
import sqlite3
from typing import Any

from xlam_jax.evaluation.agents.toolquery.base import NEAR_KM, QueryWorld, distance_km
from xlam_jax.evaluation.agents.toolquery.names import PLACES, PROVINCES
from xlam_jax.evaluation.agents.world import Refusal

YEAR = 2025
_FORECAST_DAYS = 16
_TABLES = """
CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT, zipcode TEXT, address TEXT, latitude REAL, longitude REAL,
  elevation INTEGER);
CREATE TABLE day (place INTEGER, date TEXT, max REAL, min REAL, mean REAL, rain REAL, snow REAL, air INTEGER,
  PRIMARY KEY (place, date));
"""
# Upper ends of the levels, in the manner of the US index.
_LEVELS = (
    (50, "good"), (100, "moderate"), (150, "unhealthy for sensitive groups"), (200, "unhealthy"),
    (300, "very unhealthy"), (500, "hazardous"),
)  # fmt: skip


def make_db() -> sqlite3.Connection:
    """24 places at least 200 km apart, and their 365 days; the same in every run."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.executescript(_TABLES)
    rng = random.Random("weather")
    for number, name in enumerate(PLACES):
        # A grid with some play, so that no two places are near each other.
        latitude = round(-50 + 20 * (number % 6) + rng.uniform(-4, 4), 2)
        longitude = round(-120 + 70 * (number // 6) + rng.uniform(-10, 10), 2)
        province = PROVINCES[number // 6]
        address = f"{rng.randint(1, 99)} Harbour Street, {name}, {province}"
        place = (number, name, str(10000 + 137 * number), address, latitude, longitude, rng.randint(2, 2400))
        db.execute("INSERT INTO place VALUES (?, ?, ?, ?, ?, ?, ?)", place)
        db.executemany("INSERT INTO day VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _days(number, latitude, rng))
    return db


def _days(place: int, latitude: float, rng: random.Random) -> list[tuple[Any, ...]]:
    """Warm in the middle of the year in the north, at its ends in the south; snow where it freezes."""
    rows = []
    for number in range(365):
        summer = 1 - abs(number - 197) / 99  # 1 in the middle of July, -1 half a year off
        season = summer if latitude > 0 else -summer
        mean = round(27 - 0.45 * abs(latitude) + 0.28 * abs(latitude) * season + rng.uniform(-4, 4), 1)
        high, low = round(mean + rng.uniform(2, 7), 1), round(mean - rng.uniform(2, 7), 1)
        wet = round(rng.uniform(0.2, 24), 1) if rng.random() < 0.35 else 0.0
        rain, snow = (0.0, wet) if mean < 1 else (wet, 0.0)
        date = datetime.date(YEAR, 1, 1) + datetime.timedelta(number)
        rows.append((place, date.isoformat(), high, low, mean, rain, snow, rng.randint(8, 210)))
    return rows


class Weather(QueryWorld):
    """`setting` holds `current_date` (YYYY-MM-DD) and `current_location`, the name of a place."""

    name = "weather"

    def get_user_current_date(self) -> Any:
        return self.setting["current_date"]

    def get_user_current_location(self) -> Any:
        return self.setting["current_location"]

    def get_latitude_longitude(self, name: str) -> Any:
        row = self.one(
            f"no place is called {name!r}", "SELECT name, latitude, longitude FROM place WHERE name = ?", name
        )
        return dict(zip(("name", "latitude", "longitude"), row, strict=True))

    def get_elevation(self, latitude: float, longitude: float) -> Any:
        place = self._place(latitude, longitude)
        (elevation,) = self.one("", "SELECT elevation FROM place WHERE id = ?", place)
        return {"latitude": latitude, "longitude": longitude, "elevation_m": elevation}

    def get_distance(
        self, latitude1: float, longitude1: float, latitude2: float, longitude2: float
    ) -> Any:  # fmt: skip
        for latitude, longitude in ((latitude1, longitude1), (latitude2, longitude2)):
            self._place(latitude, longitude)
        return round(distance_km(latitude1, longitude1, latitude2, longitude2))

    def convert_zipcode_to_address(self, zipcode: str) -> Any:
        (address,) = self.one(
            f"no place has the code {zipcode!r}", "SELECT address FROM place WHERE zipcode = ?", zipcode
        )
        return address

    def get_historical_temp(self, **where: Any) -> Any:
        return self._past(("max", "min", "mean"), **where)

    def get_historical_rain(self, **where: Any) -> Any:
        return self._past(("rain",), **where)

    def get_historical_snow(self, **where: Any) -> Any:
        return self._past(("snow",), **where)

    def get_historical_air_quality_index(self, **where: Any) -> Any:
        return self._past(("air",), **where)

    def get_temp_forecast(self, **where: Any) -> Any:
        return self._coming(("max", "min", "mean"), **where)

    def get_rain_forecast(self, **where: Any) -> Any:
        return self._coming(("rain",), **where)

    def get_snow_forecast(self, **where: Any) -> Any:
        return self._coming(("snow",), **where)

    def get_current_temp(self, **where: Any) -> Any:
        return self._today(("max", "min", "mean"), **where)

    def get_current_rain(self, **where: Any) -> Any:
        return self._today(("rain",), **where)

    def get_current_snow(self, **where: Any) -> Any:
        return self._today(("snow",), **where)

    def get_current_air_quality_index(self, **where: Any) -> Any:
        return self._today(("air",), **where)

    def get_air_quality_level(self, air_quality_index: float) -> Any:
        if not 0 <= air_quality_index <= 500:
            raise Refusal("the index goes from 0 to 500")
        return next(level for end, level in _LEVELS if air_quality_index <= end)

    def _past(self, what: tuple[str, ...], start_date: str, end_date: str, **where: float) -> Any:
        if end_date >= self.setting["current_date"]:
            raise Refusal(f"past days end before today, {self.setting['current_date']}")
        return self._days(what, start_date, end_date, **where)

    def _coming(self, what: tuple[str, ...], start_date: str, end_date: str, **where: float) -> Any:
        today = datetime.date.fromisoformat(self.setting["current_date"])
        last = (today + datetime.timedelta(_FORECAST_DAYS)).isoformat()
        if not today.isoformat() < start_date or not end_date <= last:
            raise Refusal(f"coming days are those after {today.isoformat()} up to {last}")
        return self._days(what, start_date, end_date, **where)

    def _today(self, what: tuple[str, ...], current_date: str, **where: float) -> Any:
        if current_date != self.setting["current_date"]:
            raise Refusal("that is not today's date")
        answer = self._days(what, current_date, current_date, **where)
        (day,) = answer.pop("days")
        return answer | day

    def _days(
        self, what: tuple[str, ...], start_date: str, end_date: str, latitude: float, longitude: float
    ) -> Any:  # fmt: skip
        place = self._place(latitude, longitude)
        query = (
            f"SELECT date, {', '.join(what)} FROM day WHERE place = ? AND date BETWEEN ? AND ? ORDER BY date"
        )
        rows = self.rows(query, place, start_date, end_date)
        if not rows:
            raise Refusal(f"there are no days from {start_date!r} to {end_date!r}; dates are YYYY-MM-DD")
        days = [dict(zip(("date", *what), row, strict=True)) for row in rows]
        return {"latitude": latitude, "longitude": longitude, "days": days}

    def _place(self, latitude: float, longitude: float) -> int:
        if abs(latitude) > 90 or abs(longitude) > 180:
            raise Refusal("latitudes go from -90 to 90, longitudes from -180 to 180")
        for place, there, across in self.rows("SELECT id, latitude, longitude FROM place"):
            if distance_km(latitude, longitude, there, across) <= NEAR_KM:
                return place
        raise Refusal("no place is known there; get_latitude_longitude tells where one is")
