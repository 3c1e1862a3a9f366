"""Unicode characters."""

from __future__ import annotations

import unicodedata
from typing import Literal

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, pick

_SYMBOLS = pick("é", "ß", "π", "€", "½", "→", "ñ", "Ω", "©", "√", "☃", "ж", "あ", "±", "§", "¿", "ø", "♞")


@api(
    "What is the Unicode name of {character}?",
    "Someone put {character} in a password. What's that character officially called?",
    "unicode name: {character}",
    name="unicode_name",
    alike="character",
    give={"character": _SYMBOLS},
    edge={"character": ["ab", "xyz"]},
)
def unicode_name(character: str) -> str:
    """Get the official Unicode name of a character.

    Args:
      character: One character.
    """
    return unicodedata.name(character)


@api(
    "Which character has the Unicode name {name}?",
    "Give me the character called {name}.",
    "lookup unicode {name}",
    name="unicode.lookup",
    give={
        "name": pick(
            "GREEK SMALL LETTER PI",
            "SNOWMAN",
            "EURO SIGN",
            "BLACK HEART SUIT",
            "INFINITY",
            "DEGREE SIGN",
            "CHECK MARK",
            "LATIN SMALL LETTER O WITH STROKE",
            "RIGHTWARDS ARROW",
            "SQUARE ROOT",
        )
    },
    edge={"name": ["HAPPY TEAPOT"]},
)
def lookup_character(name: str) -> str:
    """Find a character by its Unicode name.

    Args:
      name: Official Unicode name.
    """
    return unicodedata.lookup(name)


@api(
    "What's the code point of {character}?",
    "Which code point number does {character} have?",
    "ord {character}",
    name="codePoint",
    alike="character",
    give={"character": _SYMBOLS},
    edge={"character": ["hello"]},
)
def code_point(character: str) -> int:
    """Get the code point of a character.

    Args:
      character: One character.
    """
    return ord(character)


@api(
    "Which character has code point {code}?",
    "Show me Unicode character number {code}.",
    "chr {code}",
    name="character_from_code",
    give={"code": ints(161, 9800)},
    edge={"code": [-7]},
)
def character_from_code(code: int) -> str:
    """Get the character with a given code point.

    Args:
      code: Code point as a decimal number.
    """
    return chr(code)


@api(
    "Normalize {text} to Unicode form {form}.",
    "Apply {form} normalization to {text}.",
    "{form} of {text}",
    name="normalize_unicode",
    give={"text": pick("café", "Ångström", "naïve", "ﬁn", "Zoë", "jalapeño", "½ cup", "Düsseldorf")},
)
def normalize_unicode(text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> str:
    """Normalize a text to a Unicode form.

    Args:
      text: Text to normalize.
      form: Normalization form.
    """
    return unicodedata.normalize(form, text)


@api(
    "Remove the accents from {text}.",
    "Our system can't take accents; write {text} without them.",
    "strip accents: {text}",
    name="text.stripAccents",
    give={
        "text": pick(
            "Málaga",
            "crème brûlée",
            "São Paulo",
            "Müller",
            "Łódź",
            "Besançon",
            "Zürich",
            "smörgåsbord",
            "Hà Nội",
        )
    },
)
def strip_accents(text: str) -> str:
    """Remove accents from letters.

    Args:
      text: Text to clean.
    """
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


@api(
    "What general category does {character} have in Unicode?",
    "unicode category of {character}",
    "Look up the Unicode category for {character}.",
    name="unicode_category",
    alike="character",
    give={"character": _SYMBOLS},
)
def unicode_category(character: str) -> str:
    """Get the Unicode category of a character.

    Args:
      character: One character.
    """
    return unicodedata.category(character)


@api(
    "What number does the character {character} stand for?",
    "numeric value of {character}",
    "In an old text I found {character}. What's its numeric value?",
    name="numericValue",
    give={"character": pick("½", "¾", "Ⅷ", "五", "⅓", "²", "Ⅻ", "七", "⅝", "٤")},
    edge={"character": ["k"]},
)
def numeric_value(character: str) -> float:
    """Get the numeric value of a character.

    Args:
      character: One character.
    """
    return unicodedata.numeric(character)


@api(
    "How many vowels does {text} have?",
    "Count the vowels in {text}.",
    "vowel count: {text}",
    name="count_vowels",
    give={"text": pools.phrase},
)
def count_vowels(text: str) -> int:
    """Count the vowels of a text.

    Args:
      text: Text to examine.
    """
    return sum(c in "aeiouAEIOU" for c in text)
