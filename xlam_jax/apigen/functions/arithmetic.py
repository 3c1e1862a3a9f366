"""Whole numbers and everyday arithmetic."""

from __future__ import annotations

import math

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints, lists, nums


@api(
    "What's the greatest common divisor of {a} and {b}?",
    "I have {a} apples and {b} oranges and want identical baskets with nothing left over. How many at most?",
    "gcd of {a} and {b}",
    "Find the largest number that divides both {a} and {b}.",
    give={"a": ints(12, 980), "b": ints(8, 900)},
    edge={"b": [2.5]},
)
def greatest_common_divisor(a: int, b: int) -> int:
    """Compute the greatest common divisor of two integers.

    Args:
      a: First integer.
      b: Second integer.
    """
    return math.gcd(a, b)


@api(
    "What is the least common multiple of {a} and {b}?",
    "Two buses leave every {a} and every {b} minutes. They left together; when does that happen again?",
    "lcm of {a} and {b}, please",
    "Compute the smallest number divisible by both {a} and {b}.",
    name="math.lcm",
    give={"a": ints(4, 90), "b": ints(6, 120)},
)
def lcm(a: int, b: int) -> int:
    """Compute the least common multiple of two integers.

    Args:
      a: First integer.
      b: Second integer.
    """
    return math.lcm(a, b)


@api(
    "What is {n} factorial?",
    "Compute the factorial of {n}.",
    "In how many orders can {n} runners cross the finish line, with no ties?",
    "I need {n}! worked out for a homework check.",
    give={"n": ints(3, 25)},
    edge={"n": [-4, -1, 4.5]},
)
def factorial(n: int) -> int:
    """Compute the factorial of a non-negative integer.

    Args:
      n: Non-negative integer.
    """
    return math.factorial(n)


@api(
    "How many ways are there to choose {k} items out of {n}?",
    "We need a committee of {k} from {n} members. How many different committees are possible?",
    "binomial coefficient, n = {n}, k = {k}",
    "Count the combinations of {n} things taken {k} at a time.",
    name="math.combinations",
    alike="counting",
    joint=lambda r: (lambda n: {"n": n, "k": r.randint(2, n - 1)})(r.randint(5, 40)),
    edge={"k": [-2]},
)
def combinations(n: int, k: int) -> int:
    """Count the ways to choose k items from n without order.

    Args:
      n: Number of items.
      k: Number of items chosen.
    """
    return math.comb(n, k)


@api(
    "How many ordered arrangements of {k} books can be made from {n} books?",
    "Gold, silver and so on for {k} places among {n} athletes: how many possible rankings?",
    "permutations of {n} taken {k} at a time",
    "Count the ways to seat {n} guests on {k} numbered chairs, order mattering.",
    alike="counting",
    joint=lambda r: (lambda n: {"n": n, "k": r.randint(2, min(n - 1, 6))})(r.randint(4, 20)),
)
def count_permutations(n: int, k: int) -> int:
    """Count the ordered arrangements of k items out of n.

    Args:
      n: Number of items.
      k: Number of positions.
    """
    return math.perm(n, k)


@api(
    "Is {number} a prime number?",
    "Check whether {number} is prime.",
    "My lottery number is {number}. Does it have any divisors besides one and itself?",
    "primality test for {number}",
    give={"number": ints(11, 9999)},
)
def is_prime(number: int) -> bool:
    """Check whether an integer is prime.

    Args:
      number: Integer to test.
    """
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


@api(
    "Break {number} down into its prime factors.",
    "What are the prime factors of {number}?",
    "prime factorization of {number}",
    "For a number theory class I have to factor {number} into primes, can you do it?",
    name="numberTheory.primeFactors",
    give={"number": ints(12, 9999)},
)
def prime_factors(number: int) -> list[int]:
    """List the prime factors of an integer in ascending order.

    Args:
      number: Integer greater than 1.
    """
    factors, d = [], 2
    while d * d <= number:
        while number % d == 0:
            factors.append(d)
            number //= d
        d += 1
    return [*factors, number] if number > 1 else factors


@api(
    "List all the divisors of {number}.",
    "Which whole numbers divide {number} evenly?",
    "divisors of {number}?",
    "I have {number} chairs and want every possible equal row length. Which row lengths divide them evenly?",
    give={"number": ints(12, 600)},
)
def get_divisors(number: int) -> list[int]:
    """List all positive divisors of an integer.

    Args:
      number: Positive integer.
    """
    return [d for d in range(1, number + 1) if number % d == 0]


@api(
    "What do I get if I divide {dividend} by {divisor}, as a whole quotient and a remainder?",
    "Split {dividend} stickers evenly among {divisor} kids: how many does each get and how many are left?",
    "quotient and remainder of {dividend} / {divisor}",
    "Do long division of {dividend} by {divisor} and give me the remainder too.",
    give={"dividend": ints(50, 5000), "divisor": ints(3, 40)},
    edge={"divisor": [0, 0]},
)
def divide_with_remainder(dividend: int, divisor: int) -> dict[str, int]:
    """Divide two integers into quotient and remainder.

    Args:
      dividend: Number to divide.
      divisor: Number to divide by.
    """
    quotient, remainder = divmod(dividend, divisor)
    return {"quotient": quotient, "remainder": remainder}


@api(
    "What's the integer square root of {n}?",
    "I have {n} square tiles. How many tiles long is the side of the biggest full square I can lay?",
    "Largest whole number whose square does not exceed {n}?",
    "isqrt of {n}",
    alike="roots",
    give={"n": ints(20, 50000)},
    edge={"n": [-16, -1]},
)
def integer_square_root(n: int) -> int:
    """Compute the floor of the square root of an integer.

    Args:
      n: Non-negative integer.
    """
    return math.isqrt(n)


@api(
    "What is the cube root of {value}?",
    "A cube holds {value} cubic centimeters. How long is its edge?",
    "cube root of {value} please",
    name="math.cbrt",
    alike="roots",
    give={"value": nums(5, 5000, 1)},
)
def cube_root(value: float) -> float:
    """Compute the cube root of a number.

    Args:
      value: Number to take the root of.
    """
    return math.cbrt(value)


@api(
    "What's the natural log of {value}?",
    "Take the natural logarithm of {value}.",
    "Compute log base {base} of {value}.",
    "To what power must I raise {base} to get {value}?",
    "log of {value} in base {base}",
    give={"value": nums(2, 5000, 1), "base": ints(2, 16)},
    edge={"value": [0, -3], "base": [1]},
)
def logarithm(value: float, base: float = 2.718281828459045) -> float:
    """Compute the logarithm of a number, natural by default.

    Args:
      value: Positive number.
      base: Base of the logarithm.
    """
    return math.log(value, base)


@api(
    "What is {base} to the power of {exponent} modulo {modulus}?",
    "Compute {base}^{exponent} mod {modulus}.",
    "For a crypto exercise I need {base} raised to {exponent}, reduced modulo {modulus}.",
    "modular power: base {base}, exponent {exponent}, modulus {modulus}",
    name="mod_pow",
    give={"base": ints(2, 99), "exponent": ints(3, 200), "modulus": ints(5, 999)},
    edge={"modulus": [0]},
)
def modular_power(base: int, exponent: int, modulus: int) -> int:
    """Raise an integer to a power modulo another integer.

    Args:
      base: Base integer.
      exponent: Exponent.
      modulus: Modulus.
    """
    return pow(base, exponent, modulus)


@api(
    "Round {value} to {digits} decimal places.",
    "Round {value} to the nearest whole number.",
    "The scale shows {value}; I only need {digits} decimals.",
    "{value} rounded to {digits} digits after the point?",
    name="round_number",
    alike="round",
    give={"value": decimals(1, 900, 5), "digits": ints(1, 3)},
)
def round_number(value: float, digits: int = 0) -> float:
    """Round a number to a number of decimal places.

    Args:
      value: Number to round.
      digits: Decimal places to keep.
    """
    return round(value, digits)


@api(
    "What is the percentage change from {old} to {new}?",
    "Our visitors went from {old} to {new}. By how many percent is that up or down?",
    "percent change, old value {old}, new value {new}",
    "The price was {old} and now it's {new}. What's the change in percent?",
    alike="growth",
    give={"old": nums(20, 900, 1), "new": nums(20, 900, 1)},
    edge={"old": [0]},
)
def percent_change(old: float, new: float) -> float:
    """Compute the percentage change between two values.

    Args:
      old: Original value.
      new: New value.
    """
    return (new - old) / old * 100


@api(
    "What is {percent}% of {total}?",
    "Calculate {percent} percent of {total}.",
    "{percent}% of the {total} guests said yes. How many is that?",
    name="percentOf",
    give={"percent": ints(2, 95), "total": ints(40, 9000)},
)
def percent_of(percent: float, total: float) -> float:
    """Compute a percentage of a number.

    Args:
      percent: Percentage to take.
      total: Number to take it of.
    """
    return percent / 100 * total


@api(
    "Add up {numbers}.",
    "What's the total of {numbers}?",
    "My receipts are {numbers}. How much did I spend altogether?",
    "sum these: {numbers}",
    name="sum_numbers",
    alike="totals",
    give={"numbers": lists(decimals(1, 200, 2), 3, 6)},
)
def sum_numbers(numbers: list[float]) -> float:
    """Add a list of numbers exactly.

    Args:
      numbers: Numbers to add.
    """
    return math.fsum(numbers)


@api(
    "Multiply {numbers} together.",
    "What's the product of {numbers}?",
    "product of all of these: {numbers}",
    "A combination lock has dials with {numbers} positions. Multiply them to get the number of codes.",
    name="multiply_all",
    give={"numbers": lists(ints(2, 30), 3, 5)},
)
def product(numbers: list[int]) -> int:
    """Multiply a list of integers.

    Args:
      numbers: Integers to multiply.
    """
    return math.prod(numbers)


@api(
    "What's the sum of the digits of {number}?",
    "Add together the digits of {number}.",
    "digit sum of {number}",
    "My ticket number is {number}; what do its digits add up to?",
    alike="totals",
    give={"number": ints(120, 99999)},
)
def digit_sum(number: int) -> int:
    """Add the decimal digits of an integer.

    Args:
      number: Integer whose digits are added.
    """
    return sum(int(d) for d in str(abs(number)))


@api(
    "Keep {value} within {low} and {high}.",
    "Clamp {value} to the range {low} to {high}.",
    "The volume slider says {value} but only {low} to {high} is allowed. What should it be set to?",
    joint=lambda r: (lambda low: {"low": low, "high": low + r.randint(20, 90), "value": r.randint(-60, 200)})(
        r.randint(0, 40)
    ),
)
def clamp(value: float, low: float, high: float) -> float:
    """Limit a value to a range.

    Args:
      value: Value to limit.
      low: Smallest allowed value.
      high: Largest allowed value.
    """
    return max(low, min(high, value))
