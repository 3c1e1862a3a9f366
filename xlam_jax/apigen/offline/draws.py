"""Sensible values: draws of one row's `World`, so that what a row names goes together.

A city stands with its own country, a ticker with its own company; what is searched for fits the domain of the tool.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import Any

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.offline.tables import Place, lines, lists, places, words

COMPANIES, COINS, TOPICS = lines("companies"), lines("coins"), lists("topics")
TITLES, TAGS, SENTENCES = words("titles"), words("tags"), words("sentences")
# Every row lives on a day of this span, so that rows do not depend on the day they are made.
_FIRST_DAY = datetime.date(2025, 1, 6)
_REPOSITORIES = (
    ("pallets", "flask"), ("psf", "requests"), ("numpy", "numpy"), ("pandas-dev", "pandas"), ("django", "django"),
    ("tokio-rs", "tokio"), ("vercel", "next.js"), ("vuejs", "core"), ("rails", "rails"), ("golang", "go"),
    ("rust-lang", "cargo"), ("prometheus", "prometheus"), ("grafana", "grafana"), ("jqlang", "jq"),
)  # fmt: skip
_MOVIES = ("Metropolis", "Casablanca", "Spirited Away", "Arrival", "The Third Man")
_NPM = ("react", "express", "lodash", "axios", "vite", "eslint")
_CRATES = ("serde", "tokio", "clap", "rayon")
_MACHINES = ("web-prod-1", "db-staging", "cache-eu", "ingress-main", "backup-west", "batch-02")
_PACKAGES = ("requests", "numpy", "pandas", "flask", "pydantic", "httpx")
_FOLDERS = (
    "/home/user/documents", "/home/user/projects/webshop", "/data/projects/atlas", "/srv/share/team", "/var/www/site",
    "/home/user/photos/2025", "/opt/app", "/home/user/repos/notes",
)  # fmt: skip
_QUERIES = ("SELECT * FROM {} LIMIT 10", "SELECT COUNT(*) FROM {}", "SELECT id, name FROM {} ORDER BY name")


class World:
    """What one row is about: a place, a person, a company, a coin, a day; each drawn when it is first needed.

    Args:
      category: that what is searched for comes from.
      about: content words of the API, see `askable.content_words`.
    """

    def __init__(self, r: Random, category: str, about: frozenset[str] = frozenset()):
        self.r, self.category, self.about = r, category, about
        self.today = _FIRST_DAY + datetime.timedelta(r.randrange(700))

    @cached_property
    def place(self) -> Place:
        return self.r.choice(places())

    @cached_property
    def other_place(self) -> Place:
        return self.r.choice([p for p in places() if p.currency != self.place.currency])

    @cached_property
    def person(self) -> tuple[str, str]:
        return self.r.choice(pools.FIRST_NAMES), self.r.choice(pools.NAMES).split()[-1]

    @cached_property
    def company(self) -> tuple[str, ...]:
        return self.r.choice(COMPANIES)

    @cached_property
    def coin(self) -> tuple[str, ...]:
        return self.r.choice(COINS)

    @cached_property
    def start(self) -> datetime.date:
        far = (
            self.r.randint(-60, 40)
            if self.r.random() < 0.6
            else self.r.choice((-14, -7, -3, -2, -1, 0, 1, 2, 3, 7, 14))
        )
        return self.today + datetime.timedelta(far)

    @cached_property
    def end(self) -> datetime.date:
        return self.start + datetime.timedelta(self.r.choice((1, 2, 3, 5, 7, 10, 14, 21, 30)))

    @cached_property
    def repository(self) -> tuple[str, str]:
        return self.r.choice(_REPOSITORIES)

    def topics(self) -> tuple[str, ...]:
        """Subjects of the category."""
        return TOPICS.get(self.category) or TOPICS["Search"]

    def searched(self) -> str:
        """What is searched for: a person among people, a company among companies, else a subject of the category."""
        for about, draw in _SEARCHED:
            if self.about & about:
                return draw(self)
        return self.r.choice(self.topics())


Draw = Callable[[World], Any]


def pick(*values: Any) -> Draw:
    """One of the values."""
    return lambda w: w.r.choice(values)


def whole(low: int, high: int, step: int = 1) -> Draw:
    """A whole number."""
    return lambda w: w.r.randrange(low, high + 1, step)


def _digits(n: int, prefix: str = "") -> Draw:
    return lambda w: prefix + "".join(w.r.choice("0123456789abcdef") for _ in range(n))


def _uuid(w: World) -> str:
    h = _digits(32)(w)
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def _id(w: World) -> str:
    r = w.r
    return r.choice((
        f"{r.choice('abcdeklmprstx')}{r.randrange(100, 9999)}", str(r.randrange(1000, 99999)),
        f"{r.choice(pools.WORDS)}-{r.randrange(10, 99)}",
        f"{r.choice('ABCDXYZ')}{r.choice('KLMNP')}-{r.randrange(100, 999)}",
    ))  # fmt: skip


def _email(w: World) -> str:
    first, last = w.person
    return f"{first.lower()}.{re.sub('[^a-z]', '', last.lower())}@example.{w.r.choice(('com', 'org', 'net'))}"


def _username(w: World) -> str:
    return (
        f"{w.person[0].lower()}{w.r.choice(('', '_'))}{w.r.choice(('dev', 'writes', 'codes', '88', 'reads'))}"
    )


def path(ending: str = "") -> Draw:
    """The path of a file, with an ending of its own or any."""

    def draw(w: World) -> str:
        stem = re.sub(r"\W+", "_", w.r.choice(TITLES).lower())
        folder = w.r.choice(("/home/user/documents", "/data/projects", "/srv/share", "/tmp/work"))
        return f"{folder}/{stem}{ending or w.r.choice(('.txt', '.md', '.csv', '.json', '.pdf'))}"

    return draw


def _url(w: World) -> str:
    host = w.r.choice(
        ("www.example.com", "docs.example.org", "blog.example.net", "shop.example.com", "news.example.org")
    )
    return f"https://{host}/{w.r.choice(pools.WORDS)}" + (
        f"/{w.r.choice(pools.WORDS)}" if w.r.random() < 0.5 else ""
    )


def _price(w: World) -> float | int:
    return w.r.choice(
        (5, 10, 25, 50, 75, 100, 150, 200, 250, 500, 750, 1000, 1500, 2500, round(w.r.uniform(5, 900), 2))
    )


def _ip(w: World) -> str:
    return f"{w.r.choice((10, 52, 81, 104, 185))}.{w.r.randrange(256)}.{w.r.randrange(256)}.{w.r.randrange(1, 255)}"


def _expression(w: World) -> str:
    a, b, c = w.r.randrange(2, 60), w.r.randrange(2, 40), w.r.randrange(2, 20)
    return f"{a} {w.r.choice('+-*')} ({b} {w.r.choice('+-*')} {c})"


def _sql(w: World) -> str:
    return w.r.choice(_QUERIES).format(w.r.choice(("orders", "customers", "invoices", "products")))


_ENDINGS = (
    (".pdf", r"pdfs?"), (".csv", r"csv"), (".xlsx", r"xlsx?|excel|workbook|spreadsheet"),
    (".docx", r"docx?|word document"), (".pptx", r"pptx?|powerpoint|presentation|slides?"),
    (".png", r"png|image|screenshot|picture"), (".jpg", r"jpe?g|photo"), (".mp3", r"mp3|audio|sound"),
    (".mp4", r"mp4|video"), (".html", r"html"), (".json", r"json"), (".md", r"markdown"), (".py", r"python"),
    (".zip", r"zip|archive"), (".log", r"logs?"), (".sql", r"sql"), (".yaml", r"ya?ml"),
)  # fmt: skip


def ending_of(text: str) -> str:
    """The ending of the files that a text speaks of; "" where it speaks of none."""
    mentions = [
        (m.start(), end)
        for end, names in _ENDINGS
        if (m := re.search(rf"\b(?:{names})\b", text, re.IGNORECASE))
    ]
    return min(mentions)[1] if mentions else ""


DRAWS: dict[str, Draw] = {
    "start_date": lambda w: w.start.isoformat(),
    "end_date": lambda w: w.end.isoformat(),
    "date": lambda w: w.start.isoformat(),
    "time": lambda w: f"{w.r.randrange(6, 23):02d}:{w.r.choice((0, 15, 30, 45)):02d}",
    "datetime": lambda w: f"{w.start.isoformat()}T{w.r.randrange(7, 21):02d}:{w.r.choice((0, 30)):02d}:00Z",
    "end_datetime": lambda w: f"{w.end.isoformat()}T{w.r.randrange(7, 21):02d}:{w.r.choice((0, 30)):02d}:00Z",
    "year": lambda w: str(w.r.randint(1998, 2025)),
    "latitude": lambda w: w.place.latitude,
    "longitude": lambda w: w.place.longitude,
    "city": lambda w: w.place.city,
    "airport": lambda w: w.place.airport,
    "other_airport": lambda w: w.other_place.airport,
    "country_code": lambda w: w.place.code,
    "country": lambda w: w.place.country,
    "timezone": lambda w: w.place.timezone,
    "other_timezone": lambda w: w.other_place.timezone,
    "zip": lambda w: f"{w.r.randrange(10000, 99950)}",
    "currency": lambda w: w.place.currency,
    "other_currency": lambda w: w.other_place.currency,
    "coin": lambda w: w.coin[1],
    "coin_id": lambda w: w.coin[2],
    "ticker": lambda w: w.company[1],
    "tickers": lambda w: ",".join(c[1] for c in w.r.sample(COMPANIES, w.r.randint(2, 3))),
    "company": lambda w: w.company[0],
    "cik": lambda w: w.company[3],
    "domain": lambda w: w.company[2],
    "ip": _ip,
    "url": _url,
    "email": _email,
    "phone": lambda w: f"+1-202-555-{w.r.randrange(100, 200):04d}",
    "first_name": lambda w: w.person[0],
    "last_name": lambda w: w.person[1],
    "person": lambda w: " ".join(w.person),
    "username": _username,
    "owner": lambda w: w.repository[0],
    "repo": lambda w: w.repository[1],
    "folder": pick(*_FOLDERS),
    "image": path(".png"),
    "audio": path(".mp3"),
    "video": path(".mp4"),
    "csv": path(".csv"),
    "xlsx": path(".xlsx"),
    "path": path(),
    "out_path": path(),
    "file": lambda w: path()(w).rpartition("/")[2],
    "price": _price,
    "uuid": _uuid,
    "id": _id,
    "ids": lambda w: [_id(w) for _ in range(w.r.randint(2, 3))],
    "wallet": _digits(40, "0x"),
    "hash": _digits(64, "0x"),
    "commit": _digits(7),
    "query": lambda w: w.searched(),
    "keywords": lambda w: w.r.sample(w.topics(), w.r.randint(2, 3)),
    "tags": lambda w: w.r.sample(TAGS, w.r.randint(1, 3)),
    "tag": pick(*TAGS),
    "title": pick(*TITLES),
    "name": pick(*TITLES),
    "text": pick(*SENTENCES),
    "question": lambda w: f"What should I know about {w.searched()}?",
    "word": pick(*pools.WORDS),
    "numbers": lambda w: [w.r.randrange(2, 99) for _ in range(w.r.randint(3, 7))],
    "hex": lambda w: f"#{w.r.randrange(1 << 24):06X}",
    "expression": _expression,
    "sql": _sql,
    "version": lambda w: f"{w.r.randrange(1, 6)}.{w.r.randrange(12)}.{w.r.randrange(9)}",
    "hashtag": lambda w: w.searched().replace(" ", ""),
    "language_code": pick("en", "fr", "de", "es", "it", "pt", "nl", "sv", "ja", "ko", "pl", "tr"),
    "language": pick(
        "English", "French", "German", "Spanish", "Italian", "Portuguese", "Dutch", "Swedish", "Japanese"
    ),
}
_PEOPLE = "player user person people contact author actor member employee"
_SEARCHED: tuple[tuple[frozenset[str], Draw], ...] = tuple(
    (frozenset(about.split()), draw)
    for about, draw in (
        (_PEOPLE, DRAWS["person"]),
        ("company compani stock ticker equity", DRAWS["company"]),
        ("coin cryptocurrency cryptocurrenci crypto token", lambda w: w.coin[0]),
        ("city citi airport geocode location", DRAWS["city"]),
        ("movie film", pick(*_MOVIES)),
        ("npm node", pick(*_NPM)),
        ("crate cargo", pick(*_CRATES)),
        ("package librari library", pick(*_PACKAGES)),
        ("repository repositori repo", DRAWS["repo"]),
    )
)
_USERS = frozenset(["user", "person", "people", "employee", "member", "contact", "customer", "author"])
_HOSTS = frozenset(
    ["network", "certificate", "cluster", "server", "host", "vm", "bucket", "volume", "firewall"]
)
_NAMED: tuple[tuple[str, frozenset[str], Draw], ...] = (
    ("name", _USERS, DRAWS["person"]),
    ("name", frozenset(("card", "account", "holder")), DRAWS["person"]),
    ("name", frozenset(("domain", "dns", "zone", "website")), DRAWS["domain"]),
    ("name", _HOSTS, pick(*_MACHINES)),
    ("package", frozenset(("npm", "node", "javascript")), pick(*_NPM)),
    ("packages", frozenset(("npm", "node", "javascript")), lambda w: w.r.sample(_NPM, w.r.randint(2, 3))),
    ("package", frozenset(("crate", "cargo")), pick(*_CRATES)),
)


def fitting(kind: str, draw: Draw, about: frozenset[str]) -> Draw:
    """What a kind draws for an API of these content words: a user's name is a person's, an npm package one of npm's."""
    return next((named for name, of, named in _NAMED if name == kind and of & about), draw)
