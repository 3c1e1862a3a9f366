"""Counting, reshaping and comparing text."""

from __future__ import annotations

import difflib
import re
import string
import textwrap
from typing import Literal

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, pick, some


@api(
    "How many words are in {text}?",
    "My abstract reads {text}. What's the word count?",
    "word count: {text}",
    "Count the words of this for me: {text}",
    name="count_words",
    give={"text": pools.sentence},
)
def count_words(text: str) -> int:
    """Count the words of a text.

    Args:
      text: Text to count.
    """
    return len(text.split())


@api(
    "How often does {substring} appear in {text}?",
    "Count occurrences of {substring} in {text}.",
    ("Ignoring case, how many times does {substring} occur in {text}?", {"ignore_case": True}),
    ("case-insensitive count of {substring} in {text}", {"ignore_case": True}),
    name="text.countSubstring",
    give={"text": pools.sentence, "substring": pick("e", "th", "a", "re", "in", "o", "ed", "the")},
)
def count_substring(text: str, substring: str, ignore_case: bool = False) -> int:
    """Count how often a substring occurs in a text.

    Args:
      text: Text to search.
      substring: Substring to count.
      ignore_case: Whether to ignore upper and lower case.
    """
    return text.lower().count(substring.lower()) if ignore_case else text.count(substring)


@api(
    "Replace {old} with {new} in {text}.",
    "In the line {text}, swap every {old} for {new}.",
    "substitute {new} for {old} in {text}",
    "Please change {old} to {new} throughout {text}.",
    name="replace_text",
    joint=lambda r: (lambda t: {"text": t, "old": r.choice(t.split()), "new": r.choice(pools.WORDS)})(
        pools.sentence(r)
    ),
)
def replace_text(text: str, old: str, new: str) -> str:
    """Replace a substring everywhere in a text.

    Args:
      text: Text to change.
      old: Substring to replace.
      new: Replacement.
    """
    return text.replace(old, new)


@api(
    "Reverse the text {text}.",
    "What is {text} spelled backwards?",
    "backwards: {text}",
    "For a puzzle I need {text} with its letters in reverse order.",
    name="reverse_string",
    give={"text": pools.phrase},
)
def reverse_string(text: str) -> str:
    """Reverse the characters of a text.

    Args:
      text: Text to reverse.
    """
    return text[::-1]


@api(
    "Convert {text} to {case} case.",
    "Put the heading {text} into {case} case.",
    "{case} case version of {text}",
    "I need {text} rewritten in {case} case for the sign.",
    name="change_case",
    give={"text": pools.sentence},
    edge={"case": ["wave"]},
)
def change_case(text: str, case: Literal["upper", "lower", "title", "swap"]) -> str:
    """Change the letter case of a text.

    Args:
      text: Text to convert.
      case: Target case.
    """
    return {"upper": text.upper, "lower": text.lower, "title": text.title, "swap": text.swapcase}[case]()


@api(
    "Wrap {text} at {width} characters per line.",
    "My display is {width} characters wide. Break {text} into lines for it.",
    "line-wrap to width {width}: {text}",
    name="textwrap.wrap",
    alike="shorten",
    give={"text": pools.paragraph, "width": ints(12, 40)},
    edge={"width": [0, -5]},
)
def wrap_text(text: str, width: int) -> list[str]:
    """Break a text into lines of limited width.

    Args:
      text: Text to wrap.
      width: Maximum characters per line.
    """
    return textwrap.wrap(text, width)


@api(
    "Shorten {text} to at most {width} characters.",
    "The preview only shows {width} characters. Cut {text} down to fit.",
    "Shorten {text} to {width} characters and end it with {placeholder}.",
    "truncate {text} to {width} chars, marker {placeholder}",
    name="shorten_text",
    alike="shorten",
    give={
        "text": pools.paragraph,
        "width": ints(18, 45),
        "placeholder": pick("...", " (more)", " [cut]", "--"),
    },
    edge={"width": [1]},
)
def shorten_text(text: str, width: int, placeholder: str = "[...]") -> str:
    """Truncate a text at a word boundary.

    Args:
      text: Text to shorten.
      width: Maximum length in characters.
      placeholder: Text that marks the cut.
    """
    return textwrap.shorten(text, width, placeholder=placeholder)


@api(
    "Center {text} in a line of {width} characters.",
    "Pad {text} with {fill} on both sides to a total width of {width}.",
    "Make a banner of {width} characters with {text} in the middle, filled with {fill}.",
    name="center_text",
    give={"text": pick(*pools.TITLES), "width": ints(50, 80), "fill": pick("*", "=", "-", "~", "#")},
)
def center_text(text: str, width: int, fill: str = " ") -> str:
    """Center a text within a given width.

    Args:
      text: Text to center.
      width: Total width.
      fill: Character used for padding.
    """
    return text.center(width, fill)


@api(
    "Turn the title {title} into a URL slug.",
    "My blog post is called {title}. What slug should its URL have?",
    "slugify {title}",
    "Make a slug from {title} using {separator} between words.",
    name="slugify",
    give={"title": pick(*pools.TITLES), "separator": pick("_", "~", "+")},
)
def slugify(title: str, separator: str = "-") -> str:
    """Turn a title into a URL slug.

    Args:
      title: Title to convert.
      separator: Character between words.
    """
    return separator.join(re.findall(r"[a-z0-9]+", title.lower()))


@api(
    "How similar are {first} and {second}?",
    "Compare {first} with {second} and give me a similarity ratio.",
    "similarity score for {first} vs. {second}",
    name="text.similarity",
    alike="compare",
    give={"first": pools.word, "second": pools.word},
)
def similarity(first: str, second: str) -> float:
    """Compute the similarity ratio of two texts.

    Args:
      first: First text.
      second: Second text.
    """
    return difflib.SequenceMatcher(None, first, second).ratio()


@api(
    "I typed {word}. Which of {candidates} did I most likely mean?",
    "Find the closest match for {word} among {candidates}.",
    "best spelling match: {word}, options {candidates}",
    name="find_closest_match",
    alike="compare",
    joint=lambda r: (lambda pool: {"candidates": pool, "word": (lambda w: w[:2] + w[3:])(r.choice(pool))})(
        r.sample(pools.WORDS, 4)
    ),
)
def closest_match(word: str, candidates: list[str]) -> str | None:
    """Find the candidate most similar to a word.

    Args:
      word: Word to match.
      candidates: Words to choose from.
    """
    return next(iter(difflib.get_close_matches(word, candidates, n=1)), None)


@api(
    "Is {text} a palindrome?",
    "Does {text} read the same forwards and backwards?",
    "palindrome check for {text}",
    ("Is {text} a palindrome if capital letters and spaces have to match too?", {"strict": True}),
    name="isPalindrome",
    give={"text": pick(*pools.PALINDROMES, *pools.WORDS[:8])},
)
def is_palindrome(text: str, strict: bool = False) -> bool:
    """Check whether a text is a palindrome.

    Args:
      text: Text to check.
      strict: Whether case, spaces and punctuation count.
    """
    letters = text if strict else "".join(c for c in text.lower() if c.isalnum())
    return letters == letters[::-1]


@api(
    "Pull all email addresses out of {text}.",
    "Which email addresses are mentioned in {text}?",
    "extract emails: {text}",
    give={"text": lambda r: f"Write to {pools.email(r)} or {pools.email(r)} about {r.choice(pools.TAGS)}"},
)
def extract_emails(text: str) -> list[str]:
    """Extract the email addresses of a text.

    Args:
      text: Text to search.
    """
    return re.findall(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", text)


@api(
    "Extract every number from {text}.",
    "What numbers occur in {text}?",
    "numbers in {text}",
    name="extractNumbers",
    give={
        "text": lambda r: (
            f"{r.choice(pools.FIRST_NAMES)} bought {r.randrange(2, 90)} {r.choice(pools.GOODS)} "
            f"and {r.randrange(2, 90)} {r.choice(pools.GOODS)} for {r.randrange(5, 99)}.50"
        )
    },
)
def extract_numbers(text: str) -> list[float]:
    """Extract the numbers of a text.

    Args:
      text: Text to search.
    """
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


@api(
    "Shift each letter of {text} by {shift} places in the alphabet.",
    "Encrypt {text} with a Caesar cipher of shift {shift}.",
    "caesar, shift {shift}: {text}",
    "My scout group uses a Caesar code with key {shift}. Encode {text} for me.",
    name="cipher.caesar",
    give={"text": pools.phrase, "shift": ints(2, 24)},
)
def caesar_cipher(text: str, shift: int) -> str:
    """Encrypt a text with the Caesar cipher.

    Args:
      text: Text to encrypt.
      shift: Places to shift each letter.
    """
    low, up, k = string.ascii_lowercase, string.ascii_uppercase, shift % 26
    return text.translate(str.maketrans(low + up, low[k:] + low[:k] + up[k:] + up[:k]))


@api(
    "Pad the code {text} with zeros to {width} digits.",
    "Our invoice numbers have {width} digits. Fill {text} up with leading zeros.",
    "zero-fill {text} to width {width}",
    name="zero_pad",
    give={"text": lambda r: str(r.randrange(3, 9999)), "width": ints(6, 12)},
)
def zero_pad(text: str, width: int) -> str:
    """Pad a numeric text with leading zeros.

    Args:
      text: Digits to pad.
      width: Total length.
    """
    return text.zfill(width)


@api(
    "Split {text} at every {separator}.",
    "Break {text} into parts on {separator}.",
    "The export line is {text}, fields separated by {separator}. Give me the fields.",
    name="split_text",
    joint=lambda r: (lambda s: {"separator": s, "text": s.join(r.sample(pools.GOODS, 4))})(
        r.choice((";", "|", "/", ":"))
    ),
    edge={"separator": [""]},
)
def split_text(text: str, separator: str) -> list[str]:
    """Split a text into parts.

    Args:
      text: Text to split.
      separator: Separator between parts.
    """
    return text.split(separator)


@api(
    "Join {parts} with {separator}.",
    "Glue the words {parts} together, using {separator} as separator.",
    "join {parts} by {separator}",
    name="joinStrings",
    give={"parts": some(pools.WORDS, 3, 5), "separator": pick("-", "+", "/", " & ", "_", "::")},
)
def join_strings(parts: list[str], separator: str) -> str:
    """Join texts with a separator.

    Args:
      parts: Texts to join.
      separator: Text placed between them.
    """
    return separator.join(parts)


@api(
    "Remove all punctuation from {text}.",
    "Strip the punctuation marks out of {text}.",
    "no punctuation please: {text}",
    give={"text": lambda r: f"{pools.sentence(r)}! Really? Yes, {r.choice(pools.FIRST_NAMES)}; it's true."},
)
def remove_punctuation(text: str) -> str:
    """Remove punctuation from a text.

    Args:
      text: Text to clean.
    """
    return text.translate(str.maketrans("", "", string.punctuation))


@api(
    "Which is the longest word in {text}?",
    "Find the longest word of {text}.",
    "longest word: {text}",
    name="longest_word",
    give={"text": pools.sentence},
)
def longest_word(text: str) -> str:
    """Find the longest word of a text.

    Args:
      text: Text to search.
    """
    return max(text.split(), key=len)


@api(
    "What are the initials of {full_name:raw}?",
    "Give me the initials for {full_name:raw}.",
    "monogram for {full_name:raw}, please",
    name="getInitials",
    give={"full_name": pick(*pools.NAMES)},
)
def get_initials(full_name: str) -> str:
    """Get the initials of a person's name.

    Args:
      full_name: Full name.
    """
    return "".join(part[0].upper() for part in full_name.split())
