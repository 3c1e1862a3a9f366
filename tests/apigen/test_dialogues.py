"""Dialogues in the shop: what the shop does by hand, plans that hold, agents that do and do not as planned."""

import json
from itertools import count

import pytest

from tests.apigen.own_tools import invoke
from tests.records.chat_server import ChatServer
from xlam_jax.apigen.dialogues.blueprints import blueprint
from xlam_jax.apigen.dialogues.run import check_blueprint, tools
from xlam_jax.apigen.dialogues.shop import READS, Shop, call
from xlam_jax.format.record import read_records


def test_a_purchase_by_hand():
    shop = Shop(3)
    product = next(p for p in shop.products.values() if p.stock >= 3)
    before, orders = product.stock, len(shop.orders)
    assert shop.search_products(product.name)[0]["product_id"] == product.product_id
    call(shop, "add_to_cart", {"product_id": product.product_id, "quantity": 3})
    assert shop.show_cart()["total"] == round(3 * product.price, 2)
    assert call(shop, "apply_coupon", {"code": "SPRING10"})["total"] == round(3 * product.price * 0.9, 2)
    order = call(shop, "place_order", {"payment": "card", "address": "1 Elm Street"})
    assert order["total"] == round(3 * product.price * 0.9, 2) and order["address"] == "1 Elm Street"
    assert product.stock == before - 3 and len(shop.orders) == orders + 1 and not shop.cart
    assert (
        call(shop, "cancel_order", {"order_id": order["order_id"], "reason": "changed_mind"})["refund"]
        == order["total"]
    )
    assert product.stock == before


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("add_to_cart", {"product_id": "P1", "quantity": 1}, "no product"),
        ("place_order", {"payment": "card"}, "empty"),
        ("place_order", {"payment": "gold"}, "payment must be"),
        ("apply_coupon", {"code": "FREE"}, "not valid"),
        ("cancel_order", {"order_id": "A1", "reason": "damaged"}, "no order"),
        ("fly", {}, "no function"),
        ("show_cart", {"x": 1}, "unexpected keyword"),
    ],
)
def test_what_cannot_be_done_changes_nothing(name, arguments, error):
    shop = Shop(1)
    before = shop.state()
    assert error in call(shop, name, arguments)["error"]
    assert shop.state() == before


def test_plans_hold_what_they_promise():
    good = [plan for plan in (blueprint(5, i, 2, 6) for i in range(60)) if check_blueprint(plan) is None]
    assert len(good) > 40
    used = set()
    for plan in good:
        shop = Shop(plan.seed)
        for turn in plan.turns:
            for name, arguments in turn.calls:
                used.add(name)
                assert "error" not in (
                    answer if isinstance(answer := call(shop, name, arguments), dict) else {}
                )
    assert used == {tool.name for tool in tools()}


def test_a_call_too_many_is_found():
    plan = next(p for p in (blueprint(5, i, 2, 6) for i in count()) if check_blueprint(p) is None)
    first = plan.turns[0]
    twice = type(plan)(
        plan.seed, (type(first)(first.said, (*first.calls, ("apply_coupon", {"code": "BULK15"})), ""),)
    )
    assert check_blueprint(twice).reason in ("ungrounded_value", "needless_call")


def test_rows_of_the_script(tmp_path):
    out = tmp_path / "d.jsonl"
    invoke("apigen", "dialogues", out, "--rows", 40, "--turns", "3,4", "--json", tmp_path / "r.json")
    report, records = json.loads((tmp_path / "r.json").read_text()), list(read_records(out))
    assert len(records) == report["kept"] == 40
    assert report["planned"] == report["kept"] + sum(report["reasons"].values())
    for record in records:
        said = [record.query, *(s.user_input for s in record.steps if s.user_input)]
        assert 3 <= len(said) <= 4
        assert len([s for s in record.steps if not s.tool_calls]) == len(said)
        assert any(c.name not in READS for s in record.steps for c in s.tool_calls) or len(said) < 5
    again = tmp_path / "again.jsonl"
    invoke("apigen", "dialogues", again, "--rows", 40, "--turns", "3,4")
    assert again.read_bytes() == out.read_bytes()
    kept = tmp_path / "kept.jsonl"
    assert "40" in invoke("data", "verify", out, kept)
    assert len(list(read_records(kept))) == 40


def spoken(plans, spoil):
    """Messages of an agent that does as planned, but for what `spoil` makes of a plan's."""
    for number, plan in enumerate(plans):
        messages = []
        for turn in plan.turns:
            messages += [
                {"content": None, "tool_calls": [{"id": f"c{number}", "type": "function", "function": {
                    "name": name, "arguments": json.dumps(arguments)}}]}
                for name, arguments in turn.calls
            ]  # fmt: skip
            messages.append({"content": f"Done. {turn.told}"})
        yield from spoil(number, messages)


def test_an_agent_counts_where_it_ends_as_planned(tmp_path):
    plans = [p for p in (blueprint(0, i, 2, 2) for i in range(60)) if check_blueprint(p) is None]

    def spoil(number, messages):
        if number == 1:  # a writing call less
            for i, m in enumerate(messages):
                if m["content"] is None and m["tool_calls"][0]["function"]["name"] not in READS:
                    return messages[:i] + messages[i + 1 :]
        if number == 2:  # the figures are not told
            return [{"content": "Done."} if m["content"] else m for m in messages]
        return messages

    script = spoken(plans, spoil)
    with ChatServer(lambda _: next(script)) as server:
        out = tmp_path / "d.jsonl"
        words = (
            "apigen",
            "dialogues",
            out,
            "--rows",
            6,
            "--turns",
            "2,2",
            "--agent",
            f"{server.url}#shopkeeper",
        )
        invoke(*words, "--json", tmp_path / "r.json")
        asked = len(server.requests)
        invoke(*words)  # answers are kept
        assert len(server.requests) == asked
    reasons = json.loads((tmp_path / "r.json").read_text())["reasons"]
    assert sum(n for r, n in reasons.items() if r.startswith("play/")) >= 1
    assert {r for r in reasons if r.startswith("play/")} <= {
        "play/other_state",
        "play/not_told",
        "play/unfinished",
    }
    for record in read_records(out):
        assert "agent:shopkeeper" in record.lineage


def test_bad_input(tmp_path):
    assert "--turns" in invoke("apigen", "dialogues", tmp_path / "d.jsonl", "--turns", "6,2", code=2)
    assert list(tmp_path.iterdir()) == []
