"""Lists: ordering, counting, grouping."""

from __future__ import annotations

import bisect
import collections
import heapq
import itertools
from random import Random
from typing import Any

from xlam_jax.apigen.functions import pools
from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, lists, some

_NUMBERS = lists(ints(1, 99), 5, 8, unique=True)


def _two_sets(r: Random) -> dict[str, list[str]]:
    pool = r.sample(pools.GOODS, 6)
    return {"first": r.sample(pool, 4), "second": r.sample(pool, 4)}


def _sorted_numbers(r: Random) -> list[int]:
    return sorted(_NUMBERS(r))


def _votes(r: Random) -> list[str]:
    return r.choices(r.sample(pools.CITIES, 3), k=r.randint(6, 8))


@api(
    "Sort {numbers} from small to large.",
    ("Sort {numbers} in descending order.", {"descending": True}),
    ("Put {numbers} in order, biggest first.", {"descending": True}),
    "ascending order of {numbers}",
    name="sort_numbers",
    alike="order",
    give={"numbers": _NUMBERS},
)
def sort_numbers(numbers: list[int], descending: bool = False) -> list[int]:
    """Sort integers.

    Args:
      numbers: Integers to sort.
      descending: Whether to put the largest first.
    """
    return sorted(numbers, reverse=descending)


@api(
    "Alphabetize {words}.",
    "Put the names {words} into alphabetical order.",
    "sort alphabetically: {words}",
    name="list.alphabetize",
    alike="order",
    give={"words": some(pools.FIRST_NAMES, 4, 6)},
)
def alphabetize(words: list[str]) -> list[str]:
    """Sort words alphabetically, ignoring case.

    Args:
      words: Words to sort.
    """
    return sorted(words, key=str.casefold)


@api(
    "Remove the duplicates from {items}.",
    "My guest list has repeats: {items}. Keep each name once.",
    "unique entries of {items}",
    name="remove_duplicates",
    give={"items": _votes},
)
def remove_duplicates(items: list[str]) -> list[str]:
    """Remove repeated items, keeping the first of each.

    Args:
      items: Items to filter.
    """
    return list(dict.fromkeys(items))


@api(
    "Count how often each item occurs in {items}.",
    "Votes came in as {items}. How many did each city get?",
    "tally {items}",
    name="countItems",
    alike="tally",
    give={"items": _votes},
)
def count_items(items: list[str]) -> dict[str, int]:
    """Count how often each item occurs.

    Args:
      items: Items to count.
    """
    return dict(collections.Counter(items))


@api(
    "What are the {count} most common items in {items}?",
    "From the answers {items}, show the top {count} by frequency.",
    "top {count} most frequent of {items}",
    name="most_common",
    alike="tally",
    give={"items": _votes, "count": ints(2, 3)},
)
def most_common(items: list[str], count: int) -> list[str]:
    """List the most frequent items.

    Args:
      items: Items to count.
      count: How many to return.
    """
    return [item for item, _ in collections.Counter(items).most_common(count)]


@api(
    "Split {items} into groups of {size}.",
    "Put the players {items} into teams of {size}, in the given order.",
    "chunk {items}, chunk size {size}",
    name="chunk_list",
    give={"items": some(pools.FIRST_NAMES, 5, 8), "size": ints(2, 3)},
    edge={"size": [0]},
)
def chunk_list(items: list[str], size: int) -> list[list[str]]:
    """Split a list into groups of equal size.

    Args:
      items: Items to split.
      size: Items per group.
    """
    return [items[i : i + size] for i in range(0, len(items), size)]


@api(
    "Flatten {nested} into one list.",
    "Merge the sublists {nested} into a single flat list.",
    "flatten {nested}",
    name="lists.flatten",
    give={"nested": lists(lists(ints(1, 40), 2, 3), 2, 4)},
)
def flatten(nested: list[list[int]]) -> list[int]:
    """Flatten a list of lists by one level.

    Args:
      nested: Lists to merge.
    """
    return list(itertools.chain.from_iterable(nested))


@api(
    "What are the running totals of {numbers}?",
    "I saved {numbers} over the last months. Show the cumulative sums.",
    "cumulative sum: {numbers}",
    name="running_totals",
    give={"numbers": lists(ints(5, 200), 4, 6)},
)
def running_totals(numbers: list[int]) -> list[int]:
    """Compute the cumulative sums of a list.

    Args:
      numbers: Integers to accumulate.
    """
    return list(itertools.accumulate(numbers))


@api(
    "List every pair that can be formed from {items}.",
    "Everyone in {items} plays everyone else once. What are the matches?",
    "all pairs of {items}",
    name="all_pairs",
    give={"items": some(pools.FIRST_NAMES, 3, 5)},
)
def all_pairs(items: list[str]) -> list[list[str]]:
    """List all unordered pairs of items.

    Args:
      items: Items to pair.
    """
    return [list(pair) for pair in itertools.combinations(items, 2)]


@api(
    "What are the {count} largest numbers in {numbers}?",
    "Out of the scores {numbers}, give me the best {count}.",
    "top {count} of {numbers}",
    name="nlargest",
    alike="extreme",
    give={"numbers": _NUMBERS, "count": ints(2, 4)},
)
def n_largest(numbers: list[int], count: int) -> list[int]:
    """Find the largest numbers of a list.

    Args:
      numbers: Integers to search.
      count: How many to return.
    """
    return heapq.nlargest(count, numbers)


@api(
    "At which index would {value} go in the sorted list {numbers}?",
    "Insert position of {value} in {numbers}, so the list stays sorted?",
    "bisect: value {value}, sorted list {numbers}",
    name="findInsertIndex",
    give={"numbers": _sorted_numbers, "value": ints(1, 99)},
)
def insert_index(numbers: list[int], value: int) -> int:
    """Find the position that keeps a sorted list sorted.

    Args:
      numbers: Integers in ascending order.
      value: Value to insert.
    """
    return bisect.bisect(numbers, value)


@api(
    "Which items are in both {first} and {second}?",
    "I have {first} and my flatmate has {second}. What do we both have?",
    "intersection of {first} and {second}",
    name="list_intersection",
    joint=_two_sets,
)
def intersection(first: list[str], second: list[str]) -> list[str]:
    """List the items found in both lists.

    Args:
      first: First list.
      second: Second list.
    """
    return [item for item in first if item in second]


@api(
    "Which items of {first} are missing from {second}?",
    "My shopping list is {first} and I bought {second}. What did I forget?",
    "in {first} but not in {second}",
    name="lists.difference",
    joint=_two_sets,
)
def difference(first: list[str], second: list[str]) -> list[str]:
    """List the items of one list that another lacks.

    Args:
      first: List to filter.
      second: Items to leave out.
    """
    return [item for item in first if item not in second]


@api(
    "Rotate {items} by {steps} positions to the right.",
    "The duty roster is {items}. Rotate it {steps} places to the right.",
    "rotate right by {steps}: {items}",
    name="rotate_list",
    give={"items": some(pools.FIRST_NAMES, 4, 6), "steps": ints(2, 4)},
)
def rotate_list(items: list[str], steps: int) -> list[str]:
    """Rotate a list to the right.

    Args:
      items: Items to rotate.
      steps: Positions to rotate by.
    """
    queue = collections.deque(items)
    queue.rotate(steps)
    return list(queue)


@api(
    "Merge the sorted lists {first} and {second}.",
    "Combine {first} with {second}, both sorted, into one sorted list.",
    "sorted merge of {first} and {second}",
    name="merge_sorted",
    give={"first": _sorted_numbers, "second": _sorted_numbers},
)
def merge_sorted(first: list[int], second: list[int]) -> list[int]:
    """Merge two sorted lists.

    Args:
      first: Integers in ascending order.
      second: Integers in ascending order.
    """
    return list(heapq.merge(first, second))


@api(
    "At what position does {item} stand in {items}, counting from zero?",
    "Zero-based index of {item} in {items}?",
    "The queue is {items}. At which zero-based index is {item}?",
    name="indexOf",
    joint=lambda r: (lambda names: {"items": names, "item": r.choice(names)})(r.sample(pools.FIRST_NAMES, 5)),
    edge={"item": ["Nobody"]},
)
def index_of(items: list[str], item: str) -> int:
    """Find the zero-based position of an item.

    Args:
      items: List to search.
      item: Item to find.
    """
    return items.index(item)


@api(
    "Pair up the keys {keys} with the values {values} as a mapping.",
    "Prices for {keys} are {values} in that order. Make a lookup table.",
    "zip {keys} with {values} into a dictionary",
    name="zip_to_dict",
    joint=lambda r: (
        lambda n: {"keys": r.sample(pools.GOODS, n), "values": [r.randint(1, 40) for _ in range(n)]}
    )(r.randint(2, 4)),
)
def zip_to_dict(keys: list[str], values: list[int]) -> dict[str, int]:
    """Build a mapping from keys and values.

    Args:
      keys: Keys of the mapping.
      values: Value for each key.
    """
    return dict(zip(keys, values, strict=True))


def _stock(r: Random) -> dict[str, int]:
    return {name: r.randint(1, 60) for name in r.sample(pools.GOODS, r.randint(2, 4))}


@api(
    "Which key has the highest value in {scores}?",
    "Given the stock {scores}, which item do we have most of?",
    "key with the largest value: {scores}",
    name="maxByValue",
    give={"scores": _stock},
    edge={"scores": [{}]},
)
def key_of_max(scores: dict[str, int]) -> str:
    """Find the key with the highest value.

    Args:
      scores: Mapping of names to numbers.
    """
    return max(scores, key=scores.__getitem__)


@api(
    "Merge the inventories {first} and {second}, adding up equal items.",
    "Add up the counts {first} and {second} item by item.",
    "combine counts: {first} with {second}",
    name="merge_counts",
    give={"first": _stock, "second": _stock},
)
def merge_counts(first: dict[str, int], second: dict[str, int]) -> dict[str, Any]:
    """Add two mappings of counts.

    Args:
      first: First mapping of names to counts.
      second: Second mapping of names to counts.
    """
    return dict(collections.Counter(first) + collections.Counter(second))
