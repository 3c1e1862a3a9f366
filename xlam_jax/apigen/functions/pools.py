"""Pools of realistic text: names, places, goods, sentences, titles."""

from __future__ import annotations

from random import Random

NAMES = (
    "Amara Okafor", "Jonas Weber", "Mei Lin", "Sofia Rossi", "Liam O'Brien", "Priya Nair",
    "Carlos Mendez", "Hannah Schmidt", "Yusuf Demir", "Chloe Dubois", "Noah Johnson", "Aiko Tanaka",
    "Elena Petrova", "Omar Haddad",
)  # fmt: skip
FIRST_NAMES = (
    "Ava", "Ben", "Carla", "Dmitri", "Elif", "Farah", "Gus", "Hana", "Ivan", "Jade", "Kofi", "Lena",
    "Marco", "Nadia", "Otto", "Paula", "Quinn", "Rosa", "Sam", "Tariq", "Uma", "Viktor", "Wendy", "Zoe",
)  # fmt: skip
CITIES = (
    "Oslo", "Lima", "Nairobi", "Kyoto", "Toronto", "Lisbon", "Cairo", "Denver", "Prague", "Hanoi",
    "Bogota", "Dublin", "Mumbai", "Perth", "Quito", "Seville", "Tunis", "Vienna", "Zagreb", "Accra",
)  # fmt: skip
GOODS = (
    "apples", "bread", "cheese", "coffee", "eggs", "flour", "grapes", "honey", "lemons", "milk",
    "noodles", "olives", "pears", "rice", "salt", "tea", "tomatoes", "yogurt",
)  # fmt: skip
WORDS = (
    "harbor", "velvet", "planet", "marble", "thunder", "puzzle", "copper", "meadow", "lantern", "syntax",
    "orbit", "pepper", "banana", "mississippi", "keyboard", "galaxy", "cactus", "bottle", "window",
    "silver", "committee", "balloon", "coffee", "parallel", "umbrella", "zephyr", "cobalt", "raccoon",
    "jungle", "tornado",
)  # fmt: skip
PALINDROMES = (
    "level", "rotator", "kayak", "Never odd or even", "Was it a car or a cat I saw", "civic", "noon",
)  # fmt: skip
TITLES = (
    "Ten Tips for Better Sleep", "Quarterly Sales Review", "The Art of Slow Cooking",
    "How to Train for a Marathon", "Summer Reading List", "Release Notes for Version Two",
    "A Short History of Tea", "Winter Hiking Checklist", "Guide to Home Composting",
    "Meeting Minutes and Actions", "Learning the Cello as an Adult", "Budget Travel in Portugal",
    "Notes on Urban Gardening", "Why Bees Matter",
)  # fmt: skip
TAGS = (
    "urgent", "billing", "bug", "draft", "review", "design", "backend", "mobile", "legal", "release",
    "docs", "ops",
)  # fmt: skip
_WHO = (
    "The committee", "Our neighbor", "My sister", "The new intern", "A quiet librarian",
    "The old captain", "Every student", "The night nurse", "The small bakery", "A tired traveler",
    "The support team", "The gardener",
)  # fmt: skip
_DID = (
    "approved", "forgot", "repaired", "painted", "ordered", "described", "moved", "delivered",
    "collected", "inspected", "replaced", "sketched",
)  # fmt: skip
_WHAT = (
    "the wooden bridge", "three boxes of paper", "the annual budget", "a bright red bicycle",
    "the broken window", "two cups of coffee", "the travel plan", "an old brass clock",
    "the weekly report", "a map of the harbor", "the garden fence", "several rare books",
)  # fmt: skip
_WHEN = (
    "before lunch", "late on Friday", "without any help", "in the rain", "after the meeting",
    "last summer", "as promised", "near the station", "for the third time", "with great care",
)  # fmt: skip


def sentence(r: Random) -> str:
    """A plain sentence without a final stop."""
    parts = [r.choice(_WHO), r.choice(_DID), r.choice(_WHAT)]
    if r.random() < 0.6:
        parts.append(r.choice(_WHEN))
    return " ".join(parts)


def paragraph(r: Random) -> str:
    """Two sentences."""
    return f"{sentence(r)}. {sentence(r)}."


def phrase(r: Random) -> str:
    """A title, a word or a sentence."""
    return r.choice((r.choice(TITLES), r.choice(WORDS), sentence(r)))


def word(r: Random) -> str:
    """One word."""
    return r.choice(WORDS)


def email(r: Random) -> str:
    """An address of an example domain."""
    return (
        f"{r.choice(FIRST_NAMES).lower()}.{r.choice(WORDS)}@{r.choice(('example.com', 'mail.example.org'))}"
    )


def url(r: Random) -> str:
    """A web address with a path and at times a query."""
    host = r.choice(("shop.example.com", "docs.example.org", "api.example.net", "www.example.com"))
    tail = (
        f"?page={r.randrange(1, 30)}&sort={r.choice(('price', 'date', 'name'))}" if r.random() < 0.6 else ""
    )
    return f"https://{host}/{r.choice(WORDS)}/{r.choice(WORDS)}{tail}"


def version(r: Random) -> str:
    """A dotted version number."""
    return f"{r.randrange(10)}.{r.randrange(20)}.{r.randrange(20)}"
