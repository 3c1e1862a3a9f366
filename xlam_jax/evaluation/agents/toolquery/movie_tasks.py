"""Tasks of the movie twin."""

from __future__ import annotations

from typing import Any

from xlam_jax.evaluation.agents.toolquery.gold import Again, Draft, yes
from xlam_jax.evaluation.agents.toolquery.movies import FILMS, PEOPLE


def _title(draft: Draft, besides: str = "") -> str:
    """A title, by the draw."""
    rows = draft.rows("SELECT title FROM film ORDER BY id")
    assert len(rows) == FILMS
    title = draft.rng.choice(rows)[0]
    if title == besides:
        raise Again
    return title


def _person(draft: Draft, table: str) -> str:
    """Somebody who is in at least two films, by the draw."""
    query = f"SELECT p.name FROM person p JOIN {table} t ON t.person = p.id GROUP BY p.id HAVING count(*) > 1"
    names = draft.rows(query)
    assert 0 < len(names) <= PEOPLE
    return draft.rng.choice(names)[0]


def _search(draft: Draft, title: str) -> int:
    return draft.call("get_search_movie", movie_name=title)["id"]


def _director(draft: Draft, title: str) -> dict[str, Any]:
    crew = draft.call("get_movie_crew", movie_id=_search(draft, title))
    return next(member for member in crew if member["job"] == "Director")


def birthplace_of_a_director(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    person = draft.call("get_person_details", person_id=_director(draft, title)["id"])
    return f"Where was the director of {title} born? Answer with the place as it is written.", person[
        "birthplace"
    ]


def same_director(draft: Draft) -> tuple[str, Any]:
    one = _title(draft)
    other = _title(draft, besides=one)
    ids = [_director(draft, title)["id"] for title in (one, other)]
    draft.balance(ids[0] == ids[1])
    return f"Did the same person direct {one} and {other}? Answer with Yes or No.", yes(ids[0] == ids[1])


def better_rated(draft: Draft) -> tuple[str, Any]:
    one = _title(draft)
    titles = (one, _title(draft, besides=one))
    ratings = [draft.call("get_movie_details", movie_id=_search(draft, t))["rating"] for t in titles]
    if ratings[0] == ratings[1]:
        raise Again
    goal = f"Which is rated higher, {titles[0]} or {titles[1]}? Answer with the title."
    return goal, titles[ratings.index(max(ratings))]


def profit(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    details = draft.call("get_movie_details", movie_id=_search(draft, title))
    goal = f"By how much did the revenue of {title} exceed its budget? Answer with a number, negative for a loss."
    return goal, details["revenue"] - details["budget"]


def common_cast(draft: Draft) -> tuple[str, Any]:
    one = _title(draft)
    other = _title(draft, besides=one)
    casts = [
        {p["name"] for p in draft.call("get_movie_cast", movie_id=_search(draft, t))} for t in (one, other)
    ]
    if not casts[0] & casts[1]:
        raise Again
    return f"Who plays in both {one} and {other}? Answer with a list of names.", sorted(casts[0] & casts[1])


def title_elsewhere(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    other = draft.rng.choice(draft.call("get_movie_alternative_titles", movie_id=_search(draft, title)))
    return f"Under which title did {title} run in {other['country']}? Answer with the title.", other["title"]


def keywords(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    keywords = draft.call("get_movie_keywords", movie_id=_search(draft, title))
    return f"Which keywords does {title} have? Answer with a list.", keywords


def companies_in_common(draft: Draft) -> tuple[str, Any]:
    one = _title(draft)
    other = _title(draft, besides=one)
    both = [
        set(draft.call("get_movie_production_companies", movie_id=_search(draft, t))) for t in (one, other)
    ]
    draft.balance(bool(both[0] & both[1]))
    goal = f"How many companies took part in producing both {one} and {other}? Answer with a number."
    return goal, len(both[0] & both[1])


def oldest_of_the_cast(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    cast = draft.call("get_movie_cast", movie_id=_search(draft, title))
    if len(cast) > 3:
        raise Again
    born = {p["name"]: draft.call("get_person_details", person_id=p["id"])["birthday"] for p in cast}
    return f"Who is the oldest of those who play in {title}? Answer with the name.", min(
        born, key=lambda n: born[n]
    )


def external_id_of_a_director(draft: Draft) -> tuple[str, Any]:
    title = _title(draft)
    ids = draft.call("get_person_external_ids", person_id=_director(draft, title)["id"])
    return f"Which Filmbase id does the director of {title} have? Answer with the id.", ids["filmbase_id"]


def longest_film_of_an_actor(draft: Draft) -> tuple[str, Any]:
    name = _person(draft, "part")
    films = draft.call("get_person_cast", person_id=draft.call("get_search_person", person_name=name)["id"])
    if len(films) > 4:
        raise Again
    times = {f["title"]: draft.call("get_movie_details", movie_id=f["id"])["runtime"] for f in films}
    longest = max(times.values())
    if list(times.values()).count(longest) > 1:
        raise Again
    goal = f"Which is the longest film that {name} plays in? Answer with the title."
    return goal, next(title for title, time in times.items() if time == longest)


def films_edited(draft: Draft) -> tuple[str, Any]:
    name = _person(draft, "crew")
    films = draft.call("get_person_crew", person_id=draft.call("get_search_person", person_name=name)["id"])
    job = draft.rng.choice(films)["job"]
    what = {
        "Director": "direct",
        "Screenplay": "write",
        "Editor": "edit",
        "Composer": "compose the music of",
    }[job]
    return f"How many films did {name} {what}? Answer with a number.", sum(f["job"] == job for f in films)


TEMPLATES = (
    birthplace_of_a_director, same_director, better_rated, profit, common_cast, title_elsewhere, keywords,
    companies_in_common, oldest_of_the_cast, external_id_of_a_director, longest_film_of_an_actor, films_edited,
)  # fmt: skip
