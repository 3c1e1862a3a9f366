"""Exact fractions and decimals."""

from __future__ import annotations

import decimal
from fractions import Fraction
from random import Random
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints


def _fraction(r: Random) -> str:
    bottom = r.randint(2, 24)
    return f"{r.randint(1, 2 * bottom - 1)}/{bottom}"


def _cents(r: Random) -> str:
    return f"{r.randrange(1, 90)}.{r.randrange(10000):04d}"


@api(
    "What is {first} plus {second} as a fraction?",
    "A recipe takes {first} cup of milk and {second} cup of water. How many cups together, as a fraction?",
    "{first} + {second}, exact fraction please",
    "Add the fractions {first} and {second}.",
    name="add_fractions",
    alike="fraction_sum",
    give={"first": _fraction, "second": _fraction},
    edge={"second": ["3/0"]},
)
def add_fractions(first: str, second: str) -> str:
    """Add two fractions exactly.

    Args:
      first: Fraction such as 3/4.
      second: Fraction such as 1/6.
    """
    return str(Fraction(first) + Fraction(second))


@api(
    "Multiply {first} by {second} exactly.",
    "What's {first} of {second}, as a fraction?",
    "{first} times {second} as a fraction",
    name="fraction.multiply",
    give={"first": _fraction, "second": _fraction},
)
def multiply_fractions(first: str, second: str) -> str:
    """Multiply two fractions exactly.

    Args:
      first: Fraction such as 3/4.
      second: Fraction such as 1/6.
    """
    return str(Fraction(first) * Fraction(second))


@api(
    "Divide {dividend} by {divisor} and keep it a fraction.",
    "How many servings of {divisor} cup are in {dividend} cups?",
    "{dividend} divided by {divisor}, exact",
    name="divideFractions",
    give={"dividend": _fraction, "divisor": _fraction},
    edge={"divisor": ["0/5"]},
)
def divide_fractions(dividend: str, divisor: str) -> str:
    """Divide one fraction by another exactly.

    Args:
      dividend: Fraction to divide.
      divisor: Fraction to divide by.
    """
    return str(Fraction(dividend) / Fraction(divisor))


@api(
    "Reduce {numerator} over {denominator} to lowest terms.",
    "Simplify the fraction with numerator {numerator} and denominator {denominator}.",
    "lowest terms: {numerator} / {denominator}",
    name="simplify_fraction",
    give={"numerator": ints(4, 400), "denominator": ints(6, 600)},
    edge={"denominator": [0]},
)
def simplify_fraction(numerator: int, denominator: int) -> str:
    """Reduce a fraction to lowest terms.

    Args:
      numerator: Number above the line.
      denominator: Number below the line.
    """
    return str(Fraction(numerator, denominator))


@api(
    "Write {value} as a fraction.",
    "Which fraction comes closest to {value} with a denominator of at most {max_denominator}?",
    "My drill bits come in fractions. What's {value} inches with a denominator up to {max_denominator}?",
    "{value} to a fraction",
    name="decimal_to_fraction",
    give={"value": decimals(0, 5, 4), "max_denominator": ints(8, 64, 8)},
    edge={"max_denominator": [0]},
)
def decimal_to_fraction(value: float, max_denominator: int = 1000) -> str:
    """Approximate a decimal number by a fraction.

    Args:
      value: Number to convert.
      max_denominator: Largest denominator allowed.
    """
    return str(Fraction(value).limit_denominator(max_denominator))


@api(
    "Which is bigger, {first} or {second}?",
    "Compare the fractions {first} and {second}.",
    "I ate {first} of a pizza and my brother {second}. Compare the two fractions for me.",
    name="fraction.compare",
    give={"first": _fraction, "second": _fraction},
)
def compare_fractions(first: str, second: str) -> str:
    """Compare two fractions.

    Args:
      first: Fraction such as 3/4.
      second: Fraction such as 5/6.
    """
    left, right = Fraction(first), Fraction(second)
    return "less" if left < right else "greater" if left > right else "equal"


@api(
    "Write {fraction} as a mixed number.",
    "How many wholes and what remainder are in {fraction}?",
    "mixed number for {fraction}",
    name="to_mixed_number",
    alike="fraction_parts",
    give={"fraction": lambda r: (lambda d: f"{r.randint(d + 1, 9 * d)}/{d}")(r.randint(2, 12))},
)
def to_mixed_number(fraction: str) -> str:
    """Write an improper fraction as a mixed number.

    Args:
      fraction: Fraction such as 17/5.
    """
    value = Fraction(fraction)
    whole = value.numerator // value.denominator
    return f"{whole} {value - whole}"


@api(
    "Round {amount} to cents, rounding {mode}.",
    "Quantize {amount} to two decimals with mode {mode}.",
    "Our books round {mode}. What does {amount} become, to the cent?",
    "Round {amount} to whole cents.",
    name="round_money",
    alike="round",
    give={"amount": _cents},
)
def round_money(amount: str, mode: Literal["half_up", "half_even", "up", "down"] = "half_up") -> str:
    """Round a decimal amount to two places.

    Args:
      amount: Decimal amount.
      mode: Rounding mode.
    """
    return str(decimal.Decimal(amount).quantize(decimal.Decimal("0.01"), rounding=f"ROUND_{mode.upper()}"))


@api(
    "Subtract {second} from {first} without any floating-point error.",
    "Exact decimal difference: {first} minus {second}?",
    "The till says {first} and the receipt {second}. Exactly how much larger is the first?",
    name="decimal.subtract",
    give={"first": _cents, "second": _cents},
)
def decimal_subtract(first: str, second: str) -> str:
    """Subtract decimal numbers exactly.

    Args:
      first: Decimal number to subtract from.
      second: Decimal number to subtract.
    """
    return str(decimal.Decimal(first) - decimal.Decimal(second))


@api(
    "What's the decimal value of {fraction} to {digits} significant digits?",
    "Work out {fraction} as a decimal with {digits} significant digits.",
    "{fraction} in decimal, {digits} digits",
    name="fractionToDecimal",
    give={"fraction": _fraction, "digits": ints(4, 30)},
    edge={"fraction": ["5/0"]},
)
def fraction_to_decimal(fraction: str, digits: int) -> str:
    """Expand a fraction as a decimal number.

    Args:
      fraction: Fraction such as 22/7.
      digits: Significant digits.
    """
    value = Fraction(fraction)
    with decimal.localcontext(prec=digits):
        return str(decimal.Decimal(value.numerator) / value.denominator)
