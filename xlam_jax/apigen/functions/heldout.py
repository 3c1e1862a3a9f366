"""Functions kept for evaluation: whole names, about one in five of every domain, never shown while training.

The list is fixed (it began as the smallest name hashes of each domain), so that a model trained with an
earlier library has not seen them either; a new function goes to the training side.
"""

from __future__ import annotations

HELDOUT = frozenset(
    {
        # arithmetic
        "factorial",
        "greatest_common_divisor",
        "math.cbrt",
        "percentOf",
        # calendars
        "getCentury",
        "month_start_weekday",
        # characters
        "unicode.lookup",
        "unicode_category",
        # collections
        "indexOf",
        "list_intersection",
        "lists.difference",
        "remove_duplicates",
        # colors
        "contrast_ratio",
        "rgb_to_hex",
        # dates
        "date.addDays",
        "get_week_number",
        "time.fromUnix",
        # encoding
        "base64.decode",
        "base64_encode",
        "urlDecode",
        # finance
        "break_even_units",
        "netPresentValue",
        "simpleInterest",
        # fractions
        "divideFractions",
        "round_money",
        # geometry
        "degrees_to_radians",
        "geometry.hypotenuse",
        "toPolar",
        # network
        "count_hosts",
        "defaultPort",
        "network.split",
        # numerals
        "countSetBits",
        "formatNumber",
        # randomness
        "sample_normal",
        # science
        "physics.kineticEnergy",
        "running_pace",
        # stats
        "harmonic_mean",
        "populationVariance",
        "statistics.mean",
        # text
        "getInitials",
        "isPalindrome",
        "shorten_text",
        "text.similarity",
        # units
        "convert_temperature",
        "to_seconds",
    }
)
