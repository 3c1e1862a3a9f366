"""The movie twin: invented films and people, and what AgentBoard's movie functions tell of them."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from xlam_jax.evaluation.agents.toolquery.base import QueryWorld
from xlam_jax.evaluation.agents.toolquery.names import PLACES, PROVINCES, people
from xlam_jax.evaluation.agents.world import Refusal

FILMS, PEOPLE = 80, 90
COMPANIES = (
    "Alder & Finch", "Blue Lantern Pictures", "Copperfield Works", "Driftwood Studios", "Eleventh Hour Films",
    "Foxglove Media", "Grey Heron", "Half Moon Pictures", "Inkwell Films", "Juniper House",
)  # fmt: skip
KEYWORDS = (
    "betrayal", "small town", "heist", "road trip", "time loop", "lighthouse", "rivalry", "inheritance", "chess",
    "amnesia", "circus", "mountain rescue", "forgery", "first love", "space station", "sea voyage", "court case",
    "winter", "robot", "orchestra",
)  # fmt: skip
_GENRES = ("Drama", "Comedy", "Thriller", "Adventure", "Romance", "Mystery", "Science Fiction", "Animation")
_ADJECTIVES = (
    "Silent",
    "Crimson",
    "Hollow",
    "Distant",
    "Paper",
    "Golden",
    "Broken",
    "Midnight",
    "Glass",
    "Last",
)
_NOUNS = (
    "Harbour",
    "Orchard",
    "Signal",
    "Parade",
    "Mirror",
    "Compass",
    "Winter",
    "Letter",
    "Garden",
    "Machine",
)
_TONGUES = ("Vestrian", "Norlandic", "Orvanese", "Sundalian")
JOBS = ("Director", "Screenplay", "Editor", "Composer")
_TABLES = """
CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT, released TEXT, budget INTEGER, revenue INTEGER, runtime INTEGER,
  rating REAL, genres TEXT);
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, birthday TEXT, birthplace TEXT, filmbase TEXT, chirper TEXT);
CREATE TABLE part (film INTEGER, place INTEGER, person INTEGER, character TEXT);
CREATE TABLE crew (film INTEGER, person INTEGER, job TEXT);
CREATE TABLE company (film INTEGER, name TEXT);
CREATE TABLE country (film INTEGER, name TEXT);
CREATE TABLE keyword (film INTEGER, name TEXT);
CREATE TABLE title (film INTEGER, country TEXT, title TEXT);
CREATE TABLE translation (film INTEGER, language TEXT, overview TEXT);
"""


def make_db() -> sqlite3.Connection:
    """80 films and 90 people; the same in every run."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.executescript(_TABLES)
    rng = random.Random("movies")
    for number, name in enumerate(people(PEOPLE, rng)):
        born = f"{rng.randint(1940, 2000)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
        place = f"{rng.choice(PLACES)}, {rng.choice(PROVINCES)}"
        tag = name.lower().replace(" ", "_")
        person = (501 + 3 * number, name, born, place, f"fb{70001 + 17 * number}", f"@{tag}")
        db.execute("INSERT INTO person VALUES (?, ?, ?, ?, ?, ?)", person)
    ids = [row[0] for row in db.execute("SELECT id FROM person ORDER BY id")]
    titles = rng.sample([f"The {a} {n}" for a in _ADJECTIVES for n in _NOUNS], FILMS)
    for number, title in enumerate(titles):
        _film(db, 2001 + 7 * number, title, ids, rng)
    return db


def _film(db: sqlite3.Connection, id: int, title: str, people: list[int], rng: random.Random) -> None:
    released = f"{rng.randint(1985, 2024)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    budget = 100_000 * rng.randint(10, 1800)
    revenue = 100_000 * rng.randint(5, 5000)
    genres = ", ".join(sorted(rng.sample(_GENRES, 2)))
    film = (
        id,
        title,
        released,
        budget,
        revenue,
        rng.randint(78, 176),
        round(rng.uniform(3.5, 9.2), 1),
        genres,
    )
    db.execute("INSERT INTO film VALUES (?, ?, ?, ?, ?, ?, ?, ?)", film)
    cast = rng.sample(people[:60], rng.randint(3, 5))  # few enough that they meet again
    parts = [(id, n, person, f"Role {id}-{n + 1}") for n, person in enumerate(cast)]
    db.executemany("INSERT INTO part VALUES (?, ?, ?, ?)", parts)
    makers = [rng.choice(people[60:75]), *rng.sample(people[75:], len(JOBS) - 1)]
    db.executemany(
        "INSERT INTO crew VALUES (?, ?, ?)", [(id, p, job) for p, job in zip(makers, JOBS, strict=True)]
    )
    for table, names, most in (
        ("company", COMPANIES, 3),
        ("country", PROVINCES, 2),
        ("keyword", KEYWORDS, 5),
    ):
        chosen = rng.sample(names, rng.randint(1, most))
        db.executemany(f"INSERT INTO {table} VALUES (?, ?)", [(id, name) for name in chosen])
    noun = title.split()[-1]
    for country in rng.sample(PROVINCES, 3):
        other = f"{rng.choice(('Beyond', 'Before', 'Under', 'After'))} the {noun}, {country[:3]} cut"
        db.execute("INSERT INTO title VALUES (?, ?, ?)", (id, country, other))
    for tongue in rng.sample(_TONGUES, 2):
        told = f"({tongue}) A story of {rng.choice(KEYWORDS)} and {rng.choice(KEYWORDS)}, told in {genres.lower()}."
        db.execute("INSERT INTO translation VALUES (?, ?, ?)", (id, tongue, told))


class Movies(QueryWorld):
    """Films and people are found by their exact names, and everything else by the ids that a search returns."""

    name = "movie"

    def get_search_movie(self, movie_name: str) -> Any:
        row = self.one(
            f"no film is called {movie_name!r}", "SELECT id, title FROM film WHERE lower(title) = lower(?)", movie_name
        )  # fmt: skip
        return dict(zip(("id", "title"), row, strict=True))

    def get_movie_details(self, movie_id: Any) -> Any:
        film = self._id("film", movie_id)
        keys = ("title", "released", "budget", "revenue", "runtime", "rating", "genres")
        return dict(
            zip(keys, self.one("", f"SELECT {', '.join(keys)} FROM film WHERE id = ?", film), strict=True)
        )

    def get_movie_production_companies(self, movie_id: Any) -> Any:
        return self._names("company", movie_id)

    def get_movie_production_countries(self, movie_id: Any) -> Any:
        return self._names("country", movie_id)

    def get_movie_keywords(self, movie_id: Any) -> Any:
        return self._names("keyword", movie_id)

    def get_movie_cast(self, movie_id: Any) -> Any:
        query = (
            "SELECT p.id, p.name, t.character FROM part t JOIN person p ON p.id = t.person "
            "WHERE film = ? ORDER BY place"
        )
        return self._list(query, ("id", "name", "character"), self._id("film", movie_id))

    def get_movie_crew(self, movie_id: Any) -> Any:
        query = (
            "SELECT p.id, p.name, c.job FROM crew c JOIN person p ON p.id = c.person "
            "WHERE film = ? ORDER BY c.rowid"
        )
        return self._list(query, ("id", "name", "job"), self._id("film", movie_id))

    def get_movie_alternative_titles(self, movie_id: Any) -> Any:
        query = "SELECT country, title FROM title WHERE film = ? ORDER BY rowid"
        return self._list(query, ("country", "title"), self._id("film", movie_id))

    def get_movie_translation(self, movie_id: Any) -> Any:
        query = "SELECT language, overview FROM translation WHERE film = ? ORDER BY rowid"
        return self._list(query, ("language", "overview"), self._id("film", movie_id))

    def get_search_person(self, person_name: str) -> Any:
        row = self.one(
            f"nobody is called {person_name!r}", "SELECT id, name FROM person WHERE lower(name) = lower(?)", person_name
        )  # fmt: skip
        return dict(zip(("id", "name"), row, strict=True))

    def get_person_details(self, person_id: Any) -> Any:
        keys = ("name", "birthday", "birthplace")
        person = self._id("person", person_id)
        return dict(
            zip(keys, self.one("", f"SELECT {', '.join(keys)} FROM person WHERE id = ?", person), strict=True)
        )

    def get_person_cast(self, person_id: Any) -> Any:
        query = (
            "SELECT f.id, f.title, t.character FROM part t JOIN film f ON f.id = t.film "
            "WHERE person = ? ORDER BY f.id"
        )
        return self._list(query, ("id", "title", "character"), self._id("person", person_id))

    def get_person_crew(self, person_id: Any) -> Any:
        query = "SELECT f.id, f.title, c.job FROM crew c JOIN film f ON f.id = c.film WHERE person = ? ORDER BY f.id"
        return self._list(query, ("id", "title", "job"), self._id("person", person_id))

    def get_person_external_ids(self, person_id: Any) -> Any:
        person = self._id("person", person_id)
        row = self.one("", "SELECT filmbase, chirper FROM person WHERE id = ?", person)
        return dict(zip(("filmbase_id", "chirper_id"), row, strict=True))

    def _id(self, table: str, id: Any) -> int:
        """An id as a number or as text."""
        if isinstance(id, bool) or not str(id).isdecimal():
            raise Refusal(f"{id!r} is no id; a search returns one")
        missing = f"there is no {table} with the id {id}; a search returns one"
        return self.one(missing, f"SELECT id FROM {table} WHERE id = ?", int(str(id)[:18]))[0]

    def _names(self, table: str, movie_id: Any) -> list[str]:
        film = self._id("film", movie_id)
        return [
            name for (name,) in self.rows(f"SELECT name FROM {table} WHERE film = ? ORDER BY rowid", film)
        ]

    def _list(self, query: str, keys: tuple[str, ...], id: int) -> list[dict[str, Any]]:
        return [dict(zip(keys, row, strict=True)) for row in self.rows(query, id)]
