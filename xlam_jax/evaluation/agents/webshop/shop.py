"""The shop as a world: pages with buttons, `search` and `click`, and a reward at the sale.

Pages and buttons are WebShop's: a search bar, results ten a page, a product with its options, its sub-pages, `Buy Now`.
"""

from __future__ import annotations

from typing import Any

from xlam_jax.evaluation.agents.webshop.products import Catalogue
from xlam_jax.evaluation.agents.webshop.reward import Goal, Product, Reward, reward
from xlam_jax.evaluation.agents.world import ERROR, Refusal, Score, Task
from xlam_jax.format import Tool, ToolCall
from xlam_jax.records.sources.webshop import TOOLS

PAGE = 10
BUY, BACK, NEXT, PREVIOUS = "Buy Now", "Back to Search", "Next >", "< Prev"
_SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
_ARGUMENT = {"search": "keywords", "click": "value"}


def goal_of(task: Task) -> Goal:
    """The goal that a task's setting holds."""
    told = task.setting
    return Goal(
        tuple(told["nouns"]), told["query"], told["category"], tuple(told["attributes"]), told["options"],
        told["price_upper"],
    )  # fmt: skip


class Shop:
    """One customer's visit. Progress is the best reward that buying would have had on any page of a product so far."""

    instruction = (
        "Buy the product that is asked for: search, click it, click each option that is asked for, "
        f"and end with a click on {BUY}. Buttons stand in brackets on each page."
    )

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue
        self._goal: Goal | None = None
        self._start()
        self._sale: Reward | None = None
        self._best = 0.0

    @property
    def tools(self) -> tuple[Tool, ...]:
        return TOOLS

    @property
    def done(self) -> bool:
        return self._sale is not None

    def reset(self, task: Task) -> str:
        self._goal = goal_of(task)
        self._sale, self._best = None, 0.0
        self._start()
        return self._page()

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        try:
            if _ARGUMENT.get(name) is None:
                raise Refusal(f"there is no function {name!r}; there are search and click")
            if list(arguments) != [_ARGUMENT[name]] or not isinstance(arguments[_ARGUMENT[name]], str):
                raise Refusal(f"{name} takes {_ARGUMENT[name]}, a text")
            text = arguments[_ARGUMENT[name]].strip()
            self._search(text) if name == "search" else self._click(text)
        except Refusal as e:
            return f"{ERROR}{e}"
        return self._page()

    def score(self) -> Score:
        """WebShop's: a success is a reward of 1."""
        if self._sale is None:
            return Score(False, self._best, "not_bought", {"reward": 0.0})
        value = self._sale.value
        return Score(value == 1, self._best, "" if value == 1 else "low_reward", {"reward": value})

    def lazy(self, task: Task) -> list[ToolCall]:
        """The shortest visit: look for the goal's words, buy what comes first as it is."""
        first = self._catalogue.search(task.goal)[0]
        clicks = [ToolCall("click", {"value": value}) for value in (first, BUY)]
        return [ToolCall("search", {"keywords": task.goal}), *clicks]

    def _start(self) -> None:
        self._found: list[str] | None = None
        self._number = 0
        self._product: Product | None = None
        self._sub_page = ""
        self._chosen: dict[str, str] = {}

    def _search(self, keywords: str) -> None:
        if self._found is not None:
            raise Refusal(f"this page has no search bar; click {BACK} first")
        if not keywords:
            raise Refusal("search takes words to look for")
        self._found = self._catalogue.search(keywords)

    def _click(self, text: str) -> None:
        names = {name.lower(): name for name in self._buttons()}
        if text.lower() not in names:
            raise Refusal(f"this page has no {text!r} to click")
        button = names[text.lower()]
        if button == BACK:
            self._start()
        elif button == NEXT:
            self._number += 1
        elif button == PREVIOUS:
            self._return()
        elif button == BUY:
            self._sale = self._worth()
        elif self._product is None:
            self._product = self._catalogue.products[button]
        elif button in _SUB_PAGES:
            self._sub_page = button
        else:
            option = next(name for name, values in self._product.options.items() if button in values)
            self._chosen[option] = button
        if self._product is not None:
            self._best = max(self._best, self._worth().value)

    def _return(self) -> None:
        """From a sub-page to its product, from there to the results, of these to the ten before."""
        if self._sub_page:
            self._sub_page = ""
        elif self._product is not None:
            self._product, self._chosen = None, {}
        else:
            self._number -= 1

    def _worth(self) -> Reward:
        assert self._product is not None
        assert self._goal is not None
        return reward(self._product, self._goal, self._chosen, self._catalogue.colors)

    def _buttons(self) -> list[str]:
        if self._found is None or self.done:
            return []
        if self._sub_page:
            return [BACK, PREVIOUS]
        if self._product is not None:
            options = [value for values in self._product.options.values() for value in values]
            return [BACK, PREVIOUS, *options, *_SUB_PAGES, BUY]
        turn = [PREVIOUS] if self._number else []
        turn += [NEXT] if len(self._found) > PAGE * (self._number + 1) else []
        return [BACK, *turn, *self._shown()]

    def _shown(self) -> list[str]:
        return (self._found or [])[PAGE * self._number : PAGE * (self._number + 1)]

    def _page(self) -> str:
        """What is seen now: buttons in brackets, a chosen option in two."""
        if self.done:
            return "Thank you for shopping with us!"
        if self._found is None:
            return "A search bar. [Search]"
        if self._product is None:
            lines = [f"[{name}]" for name in self._buttons() if name not in self._shown()]
            lines.append(
                f"Page {self._number + 1} of {-(-len(self._found) // PAGE)}, {len(self._found)} products"
            )
            for id in self._shown():
                product = self._catalogue.products[id]
                lines.append(f"[{id}] {product.title}, ${product.price:.2f}")
            return "\n".join(lines)
        if self._sub_page:
            return "\n".join((f"[{BACK}] [{PREVIOUS}]", self._told(self._product)))
        return "\n".join(self._offer(self._product))

    def _offer(self, product: Product) -> list[str]:
        lines = [f"[{BACK}] [{PREVIOUS}]"]
        for name, values in product.options.items():
            chosen = self._chosen.get(name)
            lines.append(f"{name}: " + " ".join(f"[[{v}]]" if v == chosen else f"[{v}]" for v in values))
        subs = " ".join(f"[{name}]" for name in _SUB_PAGES)
        return [*lines, product.title, f"Price: ${product.price:.2f}", subs, f"[{BUY}]"]

    def _told(self, product: Product) -> str:
        """A sub-page's text."""
        if self._sub_page == "Description":
            return product.description
        if self._sub_page == "Features":
            return "\n".join(product.bullets)
        if self._sub_page == "Reviews":
            return "There are no reviews yet."
        return "\n".join(product.category.split(" › "))
