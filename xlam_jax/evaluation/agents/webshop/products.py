"""The shop's 1,000 products, the same in every run, and the search over a shop's products."""

from __future__ import annotations

import functools
import random
import re
import sqlite3
from collections.abc import Collection, Mapping

from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.webshop.reward import Product
from xlam_jax.evaluation.agents.webshop.stock import BRANDS, COLORS, DEPARTMENTS, OPTIONS, Department

FOUND = 50
"""Most products that a search finds, as in WebShop."""


@functools.cache
def products() -> dict[str, Product]:
    """25 of each of 40 kinds, by their ids."""
    made: dict[str, Product] = {}
    for department in DEPARTMENTS:
        for kind, group, low, high in department.kinds:
            rng = random.Random(f"shop {kind}")
            for brand in BRANDS:
                id = f"TWIN{len(made) + 1:06d}"
                made[id] = _product(id, brand, department, kind, group, rng.randint(low, high), rng)
    return made


def _product(
    id: str, brand: str, department: Department, kind: str, group: str, dollars: int, rng: random.Random
) -> Product:
    attributes = rng.sample(department.attributes, 5)
    shown, told, kept = attributes[:2], attributes[2:4], attributes[4]
    options = {
        name: tuple(sorted(rng.sample(OPTIONS[name], rng.randint(2, 4)))) for name in department.options
    }
    return Product(
        id=id,
        title=f"{brand} {kind.title()}, {shown[0].title()}, {shown[1].title()}",
        # The words that are names of things, for the generator knows which these are.
        nouns=(brand.lower(), *kind.split()),
        query=kind,
        category=f"{department.name} › {group} › {kind.title()}",
        price=dollars - 0.01,
        attributes=tuple(attributes),
        bullets=tuple(f"{words.capitalize()}, as our customers asked for." for words in told),
        description=f"The {brand} {kind} is made for every day. Also: {kept}.",
        options=options,
    )


class Catalogue:
    """Products and the search over them: titles, bullets, descriptions and options.

    Args:
      products: by their ids.
      colors: see `reward.reward`.

    Raises:
      InputError: SQLite was built without FTS5.
    """

    def __init__(self, products: Mapping[str, Product], colors: Collection[str] = ()):
        self.products, self.colors = products, colors
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._db.execute(
                "CREATE VIRTUAL TABLE product USING fts5(id UNINDEXED, text, tokenize = 'porter unicode61')"
            )
        except sqlite3.OperationalError as e:
            raise InputError(
                f"the shop's search needs FTS5: {e}",
                where=f"SQLite {sqlite3.sqlite_version}",
                hint="a Python whose sqlite3 has it, as those of python.org do",
            ) from e
        self._db.executemany(
            "INSERT INTO product VALUES (?, ?)", ((p.id, _words(p)) for p in products.values())
        )

    def search(self, keywords: str) -> list[str]:
        """Ids of the best 50 products for any of the words, by BM25 (SQLite's: k1 1.2, b 0.75, English stems)."""
        words = re.findall(r"\w+", keywords.lower())
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in dict.fromkeys(words))
        rows = self._db.execute(
            "SELECT id FROM product WHERE product MATCH ? ORDER BY bm25(product), rowid LIMIT ?",
            (query, FOUND),
        )
        return [id for (id,) in rows]


@functools.cache
def twin() -> Catalogue:
    """Our shop's."""
    return Catalogue(products(), COLORS)


def _words(product: Product) -> str:
    options = (value for values in product.options.values() for value in values)
    return " ".join((product.title, *product.bullets, product.description, *options))
