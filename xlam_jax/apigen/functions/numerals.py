"""Number bases, bits and number formats."""

from __future__ import annotations

import operator
import string
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints, nums


@api(
    "Write {number} in base {base}.",
    "What is {number} in the base-{base} number system?",
    "{number} to base {base}",
    "I'm teaching number systems: convert {number} to base {base}.",
    name="to_base",
    alike="base",
    give={"number": ints(20, 9999), "base": ints(2, 16)},
    edge={"base": [1, 0]},
)
def to_base(number: int, base: int) -> str:
    """Write an integer in another base.

    Args:
      number: Integer to convert.
      base: Base of the result, 2 to 36.
    """
    if not 2 <= base <= 36:
        raise ValueError("the base must be between 2 and 36")
    digits, n = "", abs(number)
    while n or not digits:
        n, d = divmod(n, base)
        digits = (string.digits + string.ascii_lowercase)[d] + digits
    return "-" * (number < 0) + digits


@api(
    "What's the decimal value of {digits} in base {base}?",
    "Read {digits} as a base-{base} number.",
    "{digits}, base {base}, to decimal",
    name="parseBase",
    alike="base_in",
    joint=lambda r: (
        lambda b: {
            "base": b,
            "digits": "".join(str(r.randrange(1, min(b, 10))) for _ in range(r.randint(3, 6))),
        }
    )(r.randint(3, 12)),
    edge={"digits": ["9z!", "1.5"]},
)
def parse_base(digits: str, base: int) -> int:
    """Read a number written in another base.

    Args:
      digits: Digits of the number.
      base: Base they are written in.
    """
    return int(digits, base)


@api(
    "Convert {number} to binary.",
    "binary of {number}",
    "How is {number} written in binary, padded to {width} bits?",
    "Show {number} as a binary number of {width} bits.",
    name="number.toBinary",
    alike="base",
    give={"number": ints(3, 200), "width": ints(8, 16, 4)},
    edge={"number": [7.5]},
)
def to_binary(number: int, width: int = 0) -> str:
    """Write an integer in binary.

    Args:
      number: Integer to convert.
      width: Minimum number of bits.
    """
    return format(number, f"0{width}b")


@api(
    "What is the hexadecimal form of {number}?",
    "Convert the integer {number} to hex.",
    ("{number} in hex, capital letters please", {"uppercase": True}),
    ("Write {number} as uppercase hexadecimal.", {"uppercase": True}),
    name="to_hexadecimal",
    alike="base",
    give={"number": ints(30, 99999)},
)
def to_hexadecimal(number: int, uppercase: bool = False) -> str:
    """Write an integer in hexadecimal.

    Args:
      number: Integer to convert.
      uppercase: Whether to use capital letters.
    """
    return format(number, "X" if uppercase else "x")


@api(
    "How many one-bits does {number} have?",
    "popcount of {number}",
    "Count the set bits in {number}.",
    name="countSetBits",
    alike="bits",
    give={"number": ints(5, 99999)},
)
def count_set_bits(number: int) -> int:
    """Count the one-bits of an integer.

    Args:
      number: Integer to examine.
    """
    return number.bit_count()


@api(
    "How many bits do I need to store {number}?",
    "bit length of {number}",
    "A counter must reach {number}. How many bits wide must it be?",
    name="bit_length",
    alike="bits",
    give={"number": ints(5, 9_999_999)},
)
def bit_length(number: int) -> int:
    """Count the bits needed to represent an integer.

    Args:
      number: Integer to examine.
    """
    return number.bit_length()


@api(
    "What is {left} {operation} {right}, bitwise?",
    "Apply bitwise {operation} to {left} and {right}.",
    "bitwise {operation} of {left} and {right}",
    name="bitwise",
    give={"left": ints(1, 255), "right": ints(1, 255)},
    edge={"operation": ["nandor"]},
)
def bitwise(operation: Literal["AND", "OR", "XOR"], left: int, right: int) -> int:
    """Combine two integers bit by bit.

    Args:
      operation: Bitwise operation.
      left: First integer.
      right: Second integer.
    """
    return {"AND": operator.and_, "OR": operator.or_, "XOR": operator.xor}[operation](left, right)


@api(
    "Shift {number} left by {bits} bits.",
    "What do I get when {number} is shifted {bits} bits to the left?",
    "left shift: {number} by {bits}",
    name="shift_left",
    give={"number": ints(1, 200), "bits": ints(1, 12)},
    edge={"bits": [-3]},
)
def shift_left(number: int, bits: int) -> int:
    """Shift an integer to the left.

    Args:
      number: Integer to shift.
      bits: Number of bits.
    """
    return number << bits


@api(
    "Write {value} in scientific notation.",
    "Express {value} in scientific notation with {digits} decimals.",
    "scientific notation, {digits} digits after the point: {value}",
    name="scientific_notation",
    alike="number_format",
    give={"value": nums(2000, 900000, 1), "digits": ints(1, 4)},
)
def scientific_notation(value: float, digits: int = 6) -> str:
    """Write a number in scientific notation.

    Args:
      value: Number to write.
      digits: Decimals of the mantissa.
    """
    return f"{value:.{digits}e}"


@api(
    "Format {value:plain} with commas as thousands separators.",
    "Make {value:plain} readable by adding commas.",
    "group the digits of {value:plain}, {decimals} decimals",
    "For the report, show {value:plain} with thousands separators and {decimals} decimal places.",
    name="formatNumber",
    alike="number_format",
    give={"value": decimals(12000, 9_000_000, 2), "decimals": ints(1, 3)},
)
def format_number(value: float, decimals: int = 2) -> str:
    """Format a number with thousands separators.

    Args:
      value: Number to format.
      decimals: Decimal places.
    """
    return f"{value:,.{decimals}f}"


@api(
    "Show the ratio {value} as a percentage.",
    "Write {value} as a percent with {decimals} decimals.",
    "{value} as a percentage, {decimals} decimals",
    name="format_percent",
    give={"value": decimals(0, 1, 4), "decimals": ints(1, 3)},
)
def format_percent(value: float, decimals: int = 0) -> str:
    """Format a ratio as a percentage.

    Args:
      value: Ratio such as 0.25.
      decimals: Decimal places.
    """
    return f"{value:.{decimals}%}"
