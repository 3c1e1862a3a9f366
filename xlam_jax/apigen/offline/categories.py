"""The category of an API, of thirty, by the words of its name, description and group (APIGen merged 49 into 21)."""

from __future__ import annotations

from xlam_jax.apigen.api import Api
from xlam_jax.apigen.offline.tables import lists
from xlam_jax.apigen.signature import words_of

_WORDS = lists("categories")
_TABLE: dict[str, list[str]] = {}
for _category, _words in _WORDS.items():
    for _word in _words:
        _TABLE.setdefault(_word, []).append(_category)
CATEGORIES = (*_WORDS, "Other")


_GENERAL = frozenset(
    ("Search", "Web", "Databases", "Data", "Text", "Other", "System", "Time", "Math", "Cloud")
)


def category_of(api: Api) -> str:
    """The category with most words of an API; words of the name and the group's own category count more."""
    scores = _scores(api)
    best = max(scores.values(), default=0.0)
    return next((c for c in CATEGORIES if scores.get(c) == best), "Other") if best else "Other"


def topic_of(api: Api) -> str:
    """The category that gives the searched-for: a search for restaurants looks for food."""
    scores = {c: s for c, s in _scores(api).items() if c not in _GENERAL}
    best = max(scores.values(), default=0.0)
    return next(c for c in CATEGORIES if scores.get(c) == best) if best >= 1 else category_of(api)


def _scores(api: Api) -> dict[str, float]:
    scores: dict[str, float] = {}
    texts = ((api.tool.name, 2.0), (f"{api.category} {api.group}", 1.5), (api.tool.description[:300], 1.0))
    for text, weight in texts:
        for word in sorted(set(words_of(text).split())):  # sums do not depend on the order
            for category in _TABLE.get(word, ()):
                scores[category] = scores.get(category, 0.0) + weight / len(_TABLE[word])
    return scores
