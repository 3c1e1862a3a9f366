"""Functions that are never shown while training: whole names, some of every domain.

`HELDOUT`, about one in five, is for the numbers that are reported; `DEV`, about one in seven, for choosing settings,
so that the reported numbers are not flattered by the choice. Both lists are fixed (they began as the smallest
name hashes of each domain), so that a model trained with an earlier library has not seen HELDOUT either; a new
function goes to the training side.
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

DEV = frozenset(
    {
        # arithmetic
        "clamp",
        "divide_with_remainder",
        "multiply_all",
        # calendars
        "last_weekday_of_month",
        "nthWeekday",
        # characters
        "text.stripAccents",
        "unicode_name",
        # collections
        "chunk_list",
        "countItems",
        # colors
        "blendColors",
        "hsv_to_hex",
        # dates
        "days_between",
        "minutes_between",
        # encoding
        "html_unescape",
        "url_encode",
        # finance
        "finance.roi",
        "savings_plan_value",
        # fractions
        "fraction.multiply",
        "to_mixed_number",
        # geometry
        "interior_angle",
        "vector.dot",
        # network
        "ipv6.expand",
        "net.ipVersion",
        # numerals
        "scientific_notation",
        "to_base",
        # randomness
        "draw_winners",
        "roll_dice",
        # science
        "free_fall_time",
        "radioactiveDecay",
        # stats
        "normalize_values",
        "pearson_correlation",
        # text
        "cipher.caesar",
        "extractNumbers",
        "remove_punctuation",
        # units
        "convertSpeed",
        "convert_weight",
    }
)
