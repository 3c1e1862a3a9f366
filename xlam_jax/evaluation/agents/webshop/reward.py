"""WebShop's reward for what was bought (Yao et al., arXiv 2207.01206; `get_reward` of its `engine/goal.py`).

    r = r_type * (attributes matched + options matched + [price <= limit]) / (attributes + options + 1)

with `r_type` from 0 to 1 for the kind of product. Fuzzy comparison is `token_set_ratio` of thefuzz 0.19, WebShop's own
version, which rests on difflib.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

FUZZY = 85
"""Texts are alike above this ratio."""


@dataclass(frozen=True)
class Product:
    """What is on sale.

    Attributes:
      nouns: of the title, lower case. WebShop has spaCy find them; whoever makes a product says them here.
      query: the kind of product, a group of the shop.
      category: from wide to narrow, with ` › ` between.
      attributes: what customers look for, not shown as such.
      options: values by name, all lower case; one of each may be chosen.
    """

    id: str
    title: str
    nouns: tuple[str, ...]
    query: str
    category: str
    price: float
    attributes: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    description: str = ""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """What a customer wants; title, nouns, query and category are those of a product that fits.

    Attributes:
      options: wanted values by name of the option.
      price_upper: most that it may cost.
    """

    nouns: tuple[str, ...]
    query: str
    category: str
    attributes: tuple[str, ...]
    options: Mapping[str, str]
    price_upper: float


@dataclass(frozen=True)
class Reward:
    """A reward from 0 to 1 and its parts: counts of matches, and the factor of the type."""

    value: float
    type: float
    attributes: int
    options: int
    price: bool


def reward(product: Product, goal: Goal, chosen: Mapping[str, str], colors: Collection[str] = ()) -> Reward:
    """The reward of buying a product with the chosen options.

    Args:
      chosen: value by name of the option.
      colors: names that a text is cut down to before options are compared, the first that is in it: `dark red` is
        `red`.
    """
    kind = type_factor(product, goal)
    attributes = attribute_matches(product, goal.attributes)
    options = option_matches(list(chosen.values()), list(goal.options.values()), colors)
    price = product.price <= goal.price_upper
    parts = len(goal.attributes) + len(goal.options) + 1
    return Reward(kind * (attributes + options + price) / parts, kind, attributes, options, price)


def title_score(product: Product, goal: Goal) -> float:
    """Share of the goal's nouns that the title has; a repeated one counts once, but in the number of nouns each time.

    0.2 where the goal has none.
    """
    if not goal.nouns:
        return 0.2
    return len(set(product.nouns) & set(goal.nouns)) / len(goal.nouns)


def category_match(product: Product, goal: Goal) -> bool:
    """Whether at least two levels are the same, wherever they stand."""
    levels = [{level.strip() for level in text.split("›")} for text in (product.category, goal.category)]
    return len(levels[0] & levels[1]) >= 2


def type_factor(product: Product, goal: Goal) -> float:
    """1 for the same kind of product, 0.5, 0.1 or 0 for others.

    The rules stand in WebShop's order: a title without any noun of the goal's is worth 0 even where the kind is the
    same.
    """
    score = title_score(product, goal)
    factor = 1.0 if product.query == goal.query or category_match(product, goal) or score > 0.2 else 0.5
    if score < 0.1:
        factor = 0.1
    return 0.0 if score == 0 else factor


def attribute_matches(product: Product, wanted: Sequence[str]) -> int:
    """How many wanted attributes are like one of the product's, or stand in its title, bullets or description."""
    texts = [product.title.lower(), " ".join(product.bullets).lower(), product.description.lower()]
    return sum(
        any(token_set_ratio(has, want) > FUZZY for has in product.attributes)
        or any(want in text for text in texts)
        for want in wanted
    )


def option_matches(chosen: Sequence[str], wanted: Sequence[str], colors: Collection[str] = ()) -> int:
    """How many wanted values are like a chosen one, of whatever option."""
    have = [_color(value, colors) for value in chosen]
    return sum(any(token_set_ratio(value, _color(want, colors)) > FUZZY for value in have) for want in wanted)


@functools.lru_cache(maxsize=1 << 16)
def token_set_ratio(a: str, b: str) -> int:
    """How alike two texts are as sets of words, 0 to 100; 0 where one has none.

    Example:
      >>> token_set_ratio("cool powder snow", "powder snow"), token_set_ratio("essential oil", "essential oils")
      (100, 96)
    """
    words_a, words_b = (set(_plain(text).split()) for text in (a, b))
    if not words_a or not words_b:
        return 0
    both = " ".join(sorted(words_a & words_b))
    whole_a = f"{both} {' '.join(sorted(words_a - words_b))}".strip()
    whole_b = f"{both} {' '.join(sorted(words_b - words_a))}".strip()
    return max(_ratio(both, whole_a), _ratio(both, whole_b), _ratio(whole_a, whole_b))


def _ratio(a: str, b: str) -> int:
    return 100 if a == b else round(100 * SequenceMatcher(None, a, b).ratio())


def _plain(text: str) -> str:
    """Lower case, ASCII only, words apart by what is neither letter nor digit."""
    return re.sub(r"\W", " ", text.encode("ascii", "ignore").decode()).lower().strip()


def _color(text: str, colors: Collection[str]) -> str:
    return next((color for color in colors if color in text), text)
