"""Tasks of the shop: for each kind of product five goals that one of its products fits, and the way to it."""

from __future__ import annotations

import functools
import random

from xlam_jax.evaluation.agents.webshop.products import products, twin
from xlam_jax.evaluation.agents.webshop.reward import Product
from xlam_jax.evaluation.agents.webshop.shop import BUY, NEXT, PAGE
from xlam_jax.evaluation.agents.world import Task
from xlam_jax.format import ToolCall

EACH = 5
_SENTENCES = (
    "I am looking for a {kind} that is {attributes}{options}, and price lower than {price:.2f} dollars.",
    "Find me a {kind}, {attributes}{options}. I can pay up to {price:.2f} dollars.",
    "I need a {attributes} {kind}{options}, for no more than {price:.2f} dollars.",
)


@functools.cache
def shop_tasks() -> tuple[Task, ...]:
    """200 tasks; the same in every run."""
    by_kind: dict[str, list[Product]] = {}
    for product in products().values():
        by_kind.setdefault(product.query, []).append(product)
    tasks: list[Task] = []
    for kind, offered in by_kind.items():
        rng = random.Random(f"shop tasks {kind}")
        order = rng.sample(offered, len(offered))
        made = 0
        for product in order:
            task = _task(f"webshop-{len(tasks) + 1:03d}", product, rng)
            if task is not None and made < EACH:
                made += 1
                tasks.append(task)
    return tuple(tasks)


def _task(id: str, product: Product, rng: random.Random) -> Task | None:
    """A goal that the product fits; None where a search for the goal's words does not find it."""
    attributes = rng.sample(product.attributes, rng.randint(1, 3))
    names = rng.sample(list(product.options), rng.randint(1, len(product.options)))
    options = {name: rng.choice(product.options[name]) for name in names}
    price = price_limit(product.price, rng)
    wanted = ", and ".join(f"{name}: {value}" for name, value in options.items())
    goal = rng.choice(_SENTENCES).format(
        kind=product.query, attributes=" and ".join(attributes), options=f", with {wanted}", price=price
    )
    keywords = " ".join((product.query, *attributes, *options.values()))
    results = twin().search(keywords)
    if product.id not in results:
        return None
    pages = results.index(product.id) // PAGE
    clicks = [NEXT] * pages + [product.id, *options.values(), BUY]
    gold = (ToolCall("search", {"keywords": keywords}), *(ToolCall("click", {"value": v}) for v in clicks))
    setting = {
        "nouns": list(product.nouns),
        "query": product.query,
        "category": product.category,
        "attributes": attributes,
        "options": options,
        "price_upper": price,
    }
    return Task(id, "webshop", goal, (*attributes, *options.values(), price), gold, setting)


def price_limit(price: float, rng: random.Random) -> float:
    """The higher of two of the next four tens above a price, as WebShop draws it.

    Raises:
      ValueError: a price with fewer than two tens below 1,000 above it.
    """
    above = [10.0 * n for n in range(1, 100) if 10.0 * n > price][:4]
    return max(rng.sample(above, 2))
