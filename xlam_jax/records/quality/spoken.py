"""How people say numbers, months, times and currencies (English)."""

from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
ONES = tuple(_ONES.split())
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_AMOUNTS = "a=1 an=1 single=1 once=1 both=2 pair=2 twice=2 double=2 couple=2 half=0.5 quarter=0.25 triple=3"

WORD_NUMBERS: dict[str, float] = {
    **{word: n for n, word in enumerate(ONES)},
    **{word: 10 * n for n, word in enumerate(_TENS.split(), 2)},
    **{word: n for n, word in enumerate(_ORDINALS.split())},
    **{word: float(n) for word, _, n in (pair.partition("=") for pair in _AMOUNTS.split())},
    "dozen": 12,
}
SCALES: dict[str, float] = {
    "hundred": 100, "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9,
    "billion": 1e9, "trillion": 1e12, "lakh": 1e5, "crore": 1e7,
}  # fmt: skip

_MONTHS = "january february march april may june july august september october november december"
MONTHS = _MONTHS.split()
_RELATIVE = (
    "today tomorrow yesterday tonight now next this last past coming upcoming weekend week weekly month "
    "monthly year day days weeks months ago morning noon afternoon evening night midnight monday tuesday "
    "wednesday thursday friday saturday sunday"
)
RELATIVE = frozenset(_RELATIVE.split())
"""Words that lead to dates and times which nobody says in figures."""

CURRENCIES = {
    "usd": ("dollar", "$", "buck"), "eur": ("euro", "€"), "gbp": ("pound", "£", "british"),
    "jpy": ("yen", "¥", "japan"), "cny": ("yuan", "rmb", "chin"), "inr": ("rupee", "₹", "india"),
    "aud": ("australia",), "cad": ("canad",), "chf": ("swiss", "franc"),
}  # fmt: skip
