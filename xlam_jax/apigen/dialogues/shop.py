"""A shop with a state: what is in stock, a cart, orders. Its functions are what an assistant calls.

Everything follows from the seed; nothing is read from outside. A call that cannot be done raises `ShopError` and
changes nothing.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

# Kind: its middle price in euros, its variants.
_KINDS = {
    "kettle": (24, "steel", "glass", "red"), "backpack": (55, "small", "medium", "large"),
    "lamp": (32, "brass", "white", "oak"), "notebook": (4, "lined", "dotted", "plain"),
    "headset": (38, "wired", "wireless", "children's"), "blanket": (29, "wool", "cotton", "fleece"),
    "mug": (7, "espresso", "stoneware", "travel"), "chair": (64, "folding", "office", "garden"),
    "raincoat": (41, "yellow", "navy", "green"), "keyboard": (48, "compact", "full-size", "ergonomic"),
    "teapot": (27, "cast-iron", "porcelain", "enamel"), "tent": (119, "one-person", "two-person", "family"),
}  # fmt: skip
_COUPONS = {"SPRING10": 10, "WELCOME5": 5, "BULK15": 15}
PAYMENTS = ("card", "invoice", "gift_card")
REASONS = ("damaged", "wrong_item", "changed_mind")


class ShopError(Exception):
    """A call that cannot be done; its text is the answer."""


@dataclass
class Product:
    """One product: price in euros with cents."""

    product_id: str
    name: str
    kind: str
    price: float
    stock: int


@dataclass
class Order:
    """One order: lines are product ids with quantities; status is `open`, `shipped`, `cancelled` or `returned`."""

    order_id: str
    lines: dict[str, int]
    total: float
    payment: str
    address: str
    status: str
    returned: dict[str, str] = field(default_factory=dict)


class Shop:
    """The shop of a seed, with one customer in it."""

    def __init__(self, seed: int):
        r = Random(f"shop/{seed}")
        self.products: dict[str, Product] = {}
        for kind, (base, *variants) in _KINDS.items():
            for variant in variants:
                number = f"P{r.randrange(1000, 9999)}"
                while number in self.products:
                    number = f"P{r.randrange(1000, 9999)}"
                price = round(base * r.uniform(0.7, 1.5), 2)
                self.products[number] = Product(
                    number, f"{variant} {kind}", kind, price, r.choice((0, 2, 3, 5, 8, 20))
                )
        self.cart: dict[str, int] = {}
        self.coupon = ""
        self.address = (
            f"{r.randrange(1, 90)} {r.choice(('Mill Lane', 'Harbor Street', 'Oak Avenue', 'Station Road'))}"
        )
        self.orders: dict[str, Order] = {}
        self._next = r.randrange(2000, 8000)
        for status in ("shipped", "open"):
            lines = {
                p.product_id: r.randint(1, 2) for p in r.sample(list(self.products.values()), r.randint(1, 2))
            }
            self._order(lines, r.choice(PAYMENTS), status)

    def state(self) -> dict[str, Any]:
        """All that a call can change, as JSON values."""
        return copy.deepcopy(
            {
                "stock": {p.product_id: p.stock for p in self.products.values()}, "cart": self.cart,
                "coupon": self.coupon, "address": self.address,
                "orders": {key: asdict(order) for key, order in self.orders.items()},
            }
        )  # fmt: skip

    def search_products(self, query: str, max_price: float | None = None) -> list[dict[str, Any]]:
        """Search the shop's products by words of their names, cheapest first.

        Args:
          query: Words that the name holds.
          max_price: Highest price in euros.
        """
        words = query.lower().split()
        matches = [
            p for p in self.products.values() if all(w.removesuffix("s") in p.name.lower() for w in words)
        ]
        matches = [p for p in matches if max_price is None or p.price <= max_price]
        return [
            {"product_id": p.product_id, "name": p.name, "price": p.price, "stock": p.stock}
            for p in sorted(matches, key=lambda p: (p.price, p.product_id))
        ]

    def add_to_cart(self, product_id: str, quantity: int = 1) -> dict[str, Any]:
        """Put a product into the cart.

        Args:
          product_id: Id of the product.
          quantity: How many.
        """
        product = self._product(product_id)
        if quantity < 1:
            raise ShopError("quantity must be at least 1")
        if self.cart.get(product_id, 0) + quantity > product.stock:
            raise ShopError(f"only {product.stock} of {product.name} in stock")
        self.cart[product_id] = self.cart.get(product_id, 0) + quantity
        return self.show_cart()

    def remove_from_cart(self, product_id: str) -> dict[str, Any]:
        """Take a product out of the cart.

        Args:
          product_id: Id of the product.
        """
        if product_id not in self.cart:
            raise ShopError("that product is not in the cart")
        del self.cart[product_id]
        return self.show_cart()

    def show_cart(self) -> dict[str, Any]:
        """Show what is in the cart, with the total in euros."""
        lines = [
            {
                "product_id": key,
                "name": self.products[key].name,
                "quantity": n,
                "price": self.products[key].price,
            }
            for key, n in self.cart.items()
        ]
        return {"lines": lines, "coupon": self.coupon, "total": self._total(self.cart)}

    def apply_coupon(self, code: str) -> dict[str, Any]:
        """Apply a coupon to the cart.

        Args:
          code: The coupon's code.
        """
        if code not in _COUPONS:
            raise ShopError(f"the coupon {code} is not valid")
        self.coupon = code
        return self.show_cart()

    def place_order(self, payment: str, address: str | None = None) -> dict[str, Any]:
        """Order what is in the cart.

        Args:
          payment: How it is paid: card, invoice or gift_card.
          address: Where it is sent; the customer's own address if left out.
        """
        if payment not in PAYMENTS:
            raise ShopError(f"payment must be one of {', '.join(PAYMENTS)}")
        if not self.cart:
            raise ShopError("the cart is empty")
        order = self._order(dict(self.cart), payment, "open", address or self.address)
        for key, n in self.cart.items():
            self.products[key].stock -= n
        self.cart, self.coupon = {}, ""
        return {
            "order_id": order.order_id,
            "total": order.total,
            "address": order.address,
            "status": order.status,
        }

    def list_orders(self, status: str | None = None) -> list[dict[str, Any]]:
        """List the customer's orders.

        Args:
          status: Only orders of this status: open, shipped, cancelled or returned.
        """
        return [
            {"order_id": o.order_id, "status": o.status, "total": o.total,
             "products": [self.products[key].name for key in o.lines]}
            for o in self.orders.values() if status is None or o.status == status
        ]  # fmt: skip

    def cancel_order(self, order_id: str, reason: str) -> dict[str, Any]:
        """Cancel an open order.

        Args:
          order_id: Id of the order.
          reason: Why: damaged, wrong_item or changed_mind.
        """
        order = self._find(order_id)
        if order.status != "open":
            raise ShopError(f"the order is {order.status} and cannot be cancelled")
        self._reason(reason)
        order.status = "cancelled"
        for key, n in order.lines.items():
            self.products[key].stock += n
        return {"order_id": order_id, "status": order.status, "refund": order.total}

    def return_product(self, order_id: str, product_id: str, reason: str) -> dict[str, Any]:
        """Return a product of a shipped order.

        Args:
          order_id: Id of the order.
          product_id: Id of the product.
          reason: Why: damaged, wrong_item or changed_mind.
        """
        order = self._find(order_id)
        if order.status != "shipped":
            raise ShopError(f"the order is {order.status}; only shipped ones take returns")
        if product_id not in order.lines or product_id in order.returned:
            raise ShopError("that product cannot be returned from this order")
        self._reason(reason)
        order.returned[product_id] = reason
        if len(order.returned) == len(order.lines):
            order.status = "returned"
        refund = round(order.lines[product_id] * self.products[product_id].price, 2)
        return {"order_id": order_id, "returned": self.products[product_id].name, "refund": refund}

    def change_address(self, order_id: str, address: str) -> dict[str, Any]:
        """Change where an open order is sent.

        Args:
          order_id: Id of the order.
          address: The new address.
        """
        order = self._find(order_id)
        if order.status != "open":
            raise ShopError(f"the order is {order.status}; its address cannot be changed")
        order.address = address
        return {"order_id": order_id, "address": address}

    def _order(self, lines: dict[str, int], payment: str, status: str, address: str = "") -> Order:
        self._next += 7
        order = Order(f"A{self._next}", lines, self._total(lines), payment, address or self.address, status)
        self.orders[order.order_id] = order
        return order

    def _total(self, lines: dict[str, int]) -> float:
        whole = sum(n * self.products[key].price for key, n in lines.items())
        return round(whole * (100 - _COUPONS.get(self.coupon, 0)) / 100, 2)

    def _product(self, product_id: str) -> Product:
        if product_id not in self.products:
            raise ShopError(f"no product {product_id}")
        return self.products[product_id]

    def _find(self, order_id: str) -> Order:
        if order_id not in self.orders:
            raise ShopError(f"no order {order_id}")
        return self.orders[order_id]

    def _reason(self, reason: str) -> None:
        if reason not in REASONS:
            raise ShopError(f"reason must be one of {', '.join(REASONS)}")


FUNCTIONS = (
    "search_products", "add_to_cart", "remove_from_cart", "show_cart", "apply_coupon", "place_order", "list_orders",
    "cancel_order", "return_product", "change_address",
)  # fmt: skip
READS = frozenset(("search_products", "show_cart", "list_orders"))
COUPONS = tuple(_COUPONS)


def call(shop: Shop, name: str, arguments: dict[str, Any]) -> Any:
    """Calls a function of the shop; what cannot be done is `{"error": ...}`."""
    if name not in FUNCTIONS:
        return {"error": f"no function {name}"}
    try:
        return getattr(shop, name)(**arguments)
    except (ShopError, TypeError) as e:
        return {"error": str(e)}
