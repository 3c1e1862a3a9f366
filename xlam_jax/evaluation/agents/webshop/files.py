"""WebShop's own shop, where a user has its files: products, attributes, and people's or made-up instructions.

`items_shuffle_1000.json` (products), `items_ins_v2_1000.json` (attributes, made-up instructions) and, where it lies
beside them, `items_human_ins.json` (people's instructions), or the same names without `_1000`. They are read as
WebShop's `load_products` and `get_goals` do. Three things differ, so that numbers compare with no published one: the
search is our BM25; all words of a title of three letters or more count as its nouns, where WebShop has spaCy guess
them; options are cut down to our names of colors. What WebShop draws anew at each start (a price within its span,
the limit) is drawn by the product's id.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.webshop.products import Catalogue
from xlam_jax.evaluation.agents.webshop.reward import Product
from xlam_jax.evaluation.agents.webshop.shop import BUY, NEXT, PAGE
from xlam_jax.evaluation.agents.webshop.stock import COLORS
from xlam_jax.evaluation.agents.webshop.tasks import price_limit
from xlam_jax.evaluation.agents.world import Task
from xlam_jax.format import ToolCall

PRODUCTS, ATTRIBUTES, PEOPLE = "items_shuffle", "items_ins_v2", "items_human_ins"
_NO_LIMIT = 1_000_000.0
_WITHOUT_ATTRIBUTES = ("DUMMY_ATTR",)  # as WebShop has it


def read_shop(folder: Path) -> tuple[Catalogue, tuple[Task, ...]]:
    """The shop and its goals; the gold of a goal searches for the product's own title.

    Raises:
      InputError: a missing file, or one that is none of WebShop's (names it).
    """
    rows = _read(_find(folder, PRODUCTS), list)
    told = _read(_find(folder, ATTRIBUTES), dict)
    people = folder / f"{PEOPLE}.json"
    products: dict[str, Product] = {}
    for number, row in enumerate(rows):
        where = f"{_find(folder, PRODUCTS)}[{number}]"
        try:
            id = row["asin"]
            if id != "nan" and len(id) <= 10 and id not in products:
                products[id] = _product(row, told.get(id, {}))
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise InputError(f"not a product of WebShop: {type(e).__name__}: {e}", where=where) from e
    catalogue = Catalogue(products, COLORS)
    try:
        goals = list(_by_people(_read(people, dict)) if people.is_file() else _made_up(told, products))
    except (KeyError, TypeError, AttributeError) as e:
        where = str(people if people.is_file() else _find(folder, ATTRIBUTES))
        raise InputError(f"not instructions of WebShop: {type(e).__name__}: {e}", where=where) from e
    wanted = [goal for goal in goals if goal[0] in products]
    tasks = [
        _task(f"webshop-{number:05d}", catalogue, products[id], text, attributes, options)
        for number, (id, text, attributes, options) in enumerate(wanted, 1)
    ]
    if not tasks:
        raise InputError("no instructions for these products", where=str(folder), hint=f"{PEOPLE}.json")
    return catalogue, tuple(tasks)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}_1000.json", folder / f"{name}.json"):
        if path.is_file():
            return path
    there = ", ".join(sorted(p.name for p in folder.glob("*.json"))) or "no JSON file"
    raise InputError(
        f"no {name}_1000.json, without which nothing can be bought; there is {there}",
        where=str(folder),
        hint="WebShop's setup.sh -d small fetches its files; leave DIR out for our twin",
    )


def _read(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise InputError(f"not JSON: {e}", where=str(path)) from e
    if not isinstance(value, kind):
        raise InputError(f"a {type(value).__name__}, not a {kind.__name__}", where=str(path))
    return value


def _product(row: dict[str, Any], told: dict[str, Any]) -> Product:
    bullets = row["small_description"]
    options = {
        name.lower(): tuple(v["value"].strip().replace("/", " | ").lower() for v in values)
        for name, values in (row["customization_options"] or {}).items()
        if values is not None
    }
    return Product(
        id=row["asin"],
        title=row["name"],
        nouns=tuple(re.findall(r"[a-z][a-z0-9.'-]{2,}", row["name"].lower())),
        query=row["query"].lower().strip(),
        category=row["product_category"],
        price=_price(row["asin"], row.get("pricing")),
        attributes=tuple(told.get("attributes", _WITHOUT_ATTRIBUTES)),
        bullets=tuple(bullets if isinstance(bullets, list) else [bullets]),
        description=row["full_description"] or "",
        options=options,
    )


def _price(id: str, text: str | None) -> float:
    prices = [float(re.sub(r"[^\d.]", "", part)) for part in (text or "").split("$")[1:]]
    if not prices:
        return 100.0
    return prices[0] if len(prices) == 1 else random.Random(id).uniform(*prices[:2])


Wanted = tuple[str, str, list[str], dict[str, str]]
"""Id of a product, instruction, attributes, values by name of the option."""


def _by_people(told: dict[str, Any]) -> Iterator[Wanted]:
    for id, rows in told.items():
        for row in rows:
            if row["instruction_attributes"]:
                options = {str(n): value for n, value in enumerate(row["instruction_options"])}
                yield id, row["instruction"].strip("."), row["instruction_attributes"], options


def _made_up(told: dict[str, Any], products: dict[str, Product]) -> Iterator[Wanted]:
    """Every combination of a product's options, as WebShop's synthetic goals have them."""
    for id, product in products.items():
        row = told.get(id, {})
        if row.get("instruction") is None:
            continue
        names = sorted(product.options)
        for values in itertools.product(*(product.options[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            wanted = ", and ".join(f"{name}: {value}" for name, value in chosen.items())
            text = row["instruction"] + (f" with {wanted}" if wanted else "")
            yield id, text, row["instruction_attributes"], chosen


def _task(
    id: str, shop: Catalogue, product: Product, text: str, attributes: list[str], options: dict[str, str]
) -> Task:  # fmt: skip
    try:
        price = price_limit(product.price, random.Random(f"{id} {product.id}"))
        text += f", and price lower than {price:.2f} dollars"
    except ValueError:  # dear products have no limit
        price = _NO_LIMIT
    results = shop.search(product.title)
    pages = results.index(product.id) // PAGE if product.id in results else 0
    offered = {value for values in product.options.values() for value in values}
    clicks = [NEXT] * pages + [product.id, *(v for v in options.values() if v in offered), BUY]
    gold = (
        ToolCall("search", {"keywords": product.title}),
        *(ToolCall("click", {"value": v}) for v in clicks),
    )
    setting = {
        "nouns": list(product.nouns),
        "query": product.query,
        "category": product.category,
        "attributes": list(attributes),
        "options": options,
        "price_upper": price,
    }
    return Task(id, "webshop", text, (*attributes, *options.values(), price), gold, setting)
