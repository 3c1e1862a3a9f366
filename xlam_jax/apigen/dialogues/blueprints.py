"""Blueprints: what a customer wants, turn by turn, with the calls that do it and what the customer is to be told.

A walk over the shop: each intent is possible in the state that the ones before have left, its arguments come from what
the customer said or from what earlier calls answered (a product id from a search, an order id from a list).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from xlam_jax.apigen.dialogues.shop import COUPONS, PAYMENTS, REASONS, Shop, call

_WHY = {
    "damaged": ("it arrived damaged", "it is broken"),
    "wrong_item": ("it's the wrong item", "they sent the wrong thing"),
    "changed_mind": ("I changed my mind", "I don't want it any more"),
}
_PAID = {"card": "by card", "invoice": "on invoice", "gift_card": "with a gift card"}
_STREETS = ("Birch Road", "Quay Street", "Castle Hill", "Linden Square", "Market Place")

Made = tuple[str, list[tuple[str, dict[str, Any]]], str]


@dataclass(frozen=True)
class Turn:
    """One turn.

    Attributes:
      said: the customer's words.
      calls: what is to be called, in order; each sees the answers of those before.
      told: what the assistant says at the end.
    """

    said: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    told: str


@dataclass(frozen=True)
class Blueprint:
    """A dialogue as planned: the shop's seed and the turns."""

    seed: int
    turns: tuple[Turn, ...]


def blueprint(seed: int, index: int, least: int, most: int) -> Blueprint:
    """Blueprint `index` of a seed; a function of its arguments alone.

    Args:
      seed: of the run; the dialogue's shop has another, drawn from it and `index`.
      index: number of the dialogue in the run.
      least, most: fewest and most turns.
    """
    r = Random(f"dialogue/{seed}/{index}")
    shop_seed = r.randrange(10**6)
    shop, turns = Shop(shop_seed), []
    wanted, before = r.randint(least, most), ""
    while len(turns) < wanted:
        possible = [intent for intent in _INTENTS if intent.__name__ != before]
        intent = r.choice(possible)
        made = intent(shop, r)
        if made is None:
            continue
        said, calls, told = made
        for name, arguments in calls:
            answer = call(shop, name, arguments)
            assert not (isinstance(answer, dict) and "error" in answer), (name, arguments, answer)
        turns.append(Turn(said, tuple(calls), told.format(**_after(shop))))
        before = intent.__name__
    return Blueprint(shop_seed, tuple(turns))


def _after(shop: Shop) -> dict[str, Any]:
    last = next(reversed(shop.orders.values()))
    return {"cart": f"{shop.show_cart()['total']:.2f}", "order": last.order_id, "paid": f"{last.total:.2f}"}


def _buyable(shop: Shop, r: Random) -> Any:
    """A kind, and the cheapest product of it that is in stock and that a search finds first."""
    kinds = sorted({p.kind for p in shop.products.values()})
    r.shuffle(kinds)
    for kind in kinds:
        in_stock = [
            p for p in shop.search_products(kind) if p["stock"] - shop.cart.get(p["product_id"], 0) > 0
        ]
        if (
            in_stock
            and shop.search_products(kind)[0] is not None
            and in_stock[0]["name"] == shop.search_products(kind)[0]["name"]
        ):
            return kind, in_stock[0]
    return None


def _buy_cheapest(shop: Shop, r: Random) -> Made | None:
    buyable = _buyable(shop, r)
    if buyable is None:
        return None
    kind, product = buyable
    left = product["stock"] - shop.cart.get(product["product_id"], 0)
    n = r.randint(1, min(3, left))
    many = f"{n} of the cheapest {kind}s" if n > 1 else f"the cheapest {kind}"
    said = r.choice((f"Please put {many} into my cart.", f"I'd like {many} you have. Add to cart, please.",
                     f"Could you add {many} to my cart?"))  # fmt: skip
    calls = [
        ("search_products", {"query": kind}),
        ("add_to_cart", {"product_id": product["product_id"], "quantity": n}),
    ]
    return (
        said,
        calls,
        f"{n} x {product['name']} at {product['price']:.2f} EUR added. The cart is at {{cart}} EUR.",
    )


def _buy_under(shop: Shop, r: Random) -> Made | None:
    buyable = _buyable(shop, r)
    if buyable is None:
        return None
    kind, product = buyable
    most = int(product["price"]) + r.randint(1, 4)
    if len(shop.search_products(kind, most)) != 1:
        return None
    said = r.choice((f"Is there a {kind} for at most {most} euros? If so, put one into my cart.",
                     f"Find me a {kind} under {most} euros and add one to the cart."))  # fmt: skip
    calls = [("search_products", {"query": kind, "max_price": most}),
             ("add_to_cart", {"product_id": product["product_id"], "quantity": 1})]  # fmt: skip
    return (
        said,
        calls,
        f"Yes: {product['name']} at {product['price']:.2f} EUR is in your cart, {{cart}} EUR in all.",
    )


def _ask_price(shop: Shop, r: Random) -> Made | None:
    product = r.choice(sorted(shop.products.values(), key=lambda p: p.product_id))
    matches = shop.search_products(product.name)
    if len(matches) != 1:
        return None
    said = r.choice(
        (f"How much is the {product.name}?", f"What does the {product.name} cost, and is it in stock?")
    )
    stock = f"{product.stock} in stock" if product.stock else "out of stock"
    return (
        said,
        [("search_products", {"query": product.name})],
        f"The {product.name} costs {product.price:.2f} EUR, {stock}.",
    )


def _show(shop: Shop, r: Random) -> Made | None:
    if not shop.cart:
        return None
    said = r.choice(("What's in my cart?", "How much is my cart now?", "Read me my cart, please."))
    names = ", ".join(f"{n} x {shop.products[key].name}" for key, n in shop.cart.items())
    return said, [("show_cart", {})], f"{names}: {{cart}} EUR."


def _remove(shop: Shop, r: Random) -> Made | None:
    if not shop.cart:
        return None
    key = r.choice(sorted(shop.cart))
    name = shop.products[key].name
    said = r.choice((f"Take the {name} out again.", f"Remove the {name} from the cart, please."))
    return (
        said,
        [("remove_from_cart", {"product_id": key})],
        f"The {name} is out. The cart is at {{cart}} EUR.",
    )


def _coupon(shop: Shop, r: Random) -> Made | None:
    if not shop.cart or shop.coupon:
        return None
    code = r.choice(COUPONS)
    said = r.choice((f"I have a coupon, {code}.", f"Please use the code {code}."))
    return said, [("apply_coupon", {"code": code})], f"{code} is applied. The cart is at {{cart}} EUR."


def _order(shop: Shop, r: Random) -> Made | None:
    if not shop.cart:
        return None
    payment = r.choice(PAYMENTS)
    arguments: dict[str, Any] = {"payment": payment}
    where = ""
    if r.random() < 0.4:
        arguments["address"] = f"{r.randrange(1, 99)} {r.choice(_STREETS)}"
        where = f" Send it to {arguments['address']}."
    said = r.choice((f"Order it, {_PAID[payment]}.{where}", f"That's all. I'll pay {_PAID[payment]}.{where}"))
    return said, [("place_order", arguments)], "Ordered: {order}, {paid} EUR."


def _cancel(shop: Shop, r: Random) -> Made | None:
    open_ = [o for o in shop.orders.values() if o.status == "open"]
    if len(open_) != 1:
        return None
    order, reason = open_[0], r.choice(REASONS[2:])
    said = r.choice(
        (
            f"Cancel my open order, {r.choice(_WHY[reason])}.",
            f"I want to cancel the order that's still open: {r.choice(_WHY[reason])}.",
        )
    )
    calls = [
        ("list_orders", {"status": "open"}),
        ("cancel_order", {"order_id": order.order_id, "reason": reason}),
    ]
    return said, calls, f"{order.order_id} is cancelled; {order.total:.2f} EUR come back to you."


def _move(shop: Shop, r: Random) -> Made | None:
    open_ = [o for o in shop.orders.values() if o.status == "open"]
    if len(open_) != 1:
        return None
    address = f"{r.randrange(1, 99)} {r.choice(_STREETS)}"
    said = r.choice(
        (
            f"My open order should go to {address} instead.",
            f"Please change the address of my open order to {address}.",
        )
    )
    calls = [
        ("list_orders", {"status": "open"}),
        ("change_address", {"order_id": open_[0].order_id, "address": address}),
    ]
    return said, calls, f"{open_[0].order_id} goes to {address} now."


def _give_back(shop: Shop, r: Random) -> Made | None:
    for order in shop.orders.values():
        left = [key for key in order.lines if key not in order.returned]
        if order.status == "shipped" and left:
            key, reason = r.choice(left), r.choice(REASONS)
            product = shop.products[key]
            if len(shop.search_products(product.name)) != 1:
                return None
            why = r.choice(_WHY[reason])
            said = r.choice((
                f"I want to return the {product.name} from order {order.order_id}, {why}.",
                f"The {product.name} of {order.order_id} goes back: {why}.",
            ))  # fmt: skip
            calls = [
                ("search_products", {"query": product.name}),
                ("return_product", {"order_id": order.order_id, "product_id": key, "reason": reason}),
            ]
            refund = order.lines[key] * product.price
            return said, calls, f"The return of the {product.name} is booked, {refund:.2f} EUR."
    return None


def _orders(shop: Shop, r: Random) -> Made | None:
    said = r.choice(("Which orders do I have?", "Show me my orders."))
    listed = ", ".join(f"{o.order_id} ({o.status})" for o in shop.orders.values())
    return said, [("list_orders", {})], f"{listed}."


_INTENTS: tuple[Callable[[Shop, Random], Made | None], ...] = (
    _buy_cheapest, _buy_cheapest, _buy_under, _ask_price, _show, _remove, _coupon, _order, _order, _cancel, _move,
    _give_back, _orders,
)  # fmt: skip
