"""Twins of ToolQuery's worlds: weather, movies and academia with data and tasks of our own.

They exercise what AgentBoard's ToolQuery does, by the same measures, but their numbers do not compare with published
ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from xlam_jax.evaluation.agents.toolquery import academia, movies, weather
from xlam_jax.evaluation.agents.toolquery.academia import Academia
from xlam_jax.evaluation.agents.toolquery.base import QueryWorld
from xlam_jax.evaluation.agents.toolquery.movies import Movies
from xlam_jax.evaluation.agents.toolquery.weather import Weather
from xlam_jax.evaluation.agents.world import Task

_MAKERS: dict[str, Callable[[], QueryWorld]] = {
    "weather": lambda: Weather(_db("weather")),
    "movie": lambda: Movies(_db("movie")),
    "academia": lambda: Academia(_db("academia")),
}
NAMES = tuple(_MAKERS)
_EACH = 6  # tasks of a template; twelve templates make 72 a world


def make_world(name: str) -> QueryWorld:
    """A world of that name; worlds of a name share their database."""
    return _MAKERS[name]()


@functools.cache
def twin_tasks(name: str) -> tuple[Task, ...]:
    """The 72 tasks of a world; the same in every run."""
    from xlam_jax.evaluation.agents.toolquery import academia_tasks, movie_tasks, weather_tasks
    from xlam_jax.evaluation.agents.toolquery.gold import make_tasks

    templates = {
        "weather": weather_tasks.TEMPLATES,
        "movie": movie_tasks.TEMPLATES,
        "academia": academia_tasks.TEMPLATES,
    }
    setting = weather_tasks.setting if name == "weather" else lambda rng: {}
    return make_tasks(make_world(name), templates[name], _EACH, setting)


@functools.cache
def _db(name: str):
    return {"weather": weather, "movie": movies, "academia": academia}[name].make_db()
