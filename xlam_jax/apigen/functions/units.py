"""Unit conversions."""

from __future__ import annotations

import datetime
from random import Random
from typing import Any, Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, nums


def _between(units: tuple[str, ...], value: Any):
    def draw(r: Random) -> dict[str, Any]:
        first, second = r.sample(units, 2)
        return {"value": value(r), "from_unit": first, "to_unit": second}

    return draw


@api(
    "Convert {value} degrees {from_unit} to {to_unit}.",
    "The oven says {value} degrees {from_unit}. What's that in {to_unit}?",
    "{value} {from_unit} in {to_unit}?",
    name="convert_temperature",
    joint=_between(("Celsius", "Fahrenheit", "Kelvin"), nums(5, 400, 1)),
    edge={"to_unit": ["Rankine"]},
)
def convert_temperature(
    value: float,
    from_unit: Literal["Celsius", "Fahrenheit", "Kelvin"],
    to_unit: Literal["Celsius", "Fahrenheit", "Kelvin"],
) -> float:
    """Convert a temperature between scales.

    Args:
      value: Temperature to convert.
      from_unit: Scale of the given value.
      to_unit: Scale wanted.
    """
    celsius = {"Celsius": value, "Fahrenheit": (value - 32) * 5 / 9, "Kelvin": value - 273.15}[from_unit]
    return {"Celsius": celsius, "Fahrenheit": celsius * 9 / 5 + 32, "Kelvin": celsius + 273.15}[to_unit]


@api(
    "How many {to_unit} are {value} {from_unit}?",
    "Convert {value} {from_unit} to {to_unit}.",
    "The trail is {value} {from_unit} long. What's that in {to_unit}?",
    "{value} {from_unit} -> {to_unit}",
    name="units.convertLength",
    joint=_between(("meters", "kilometers", "miles", "feet", "inches"), nums(2, 900, 1)),
    edge={"to_unit": ["furlongs", "parsecs"]},
)
def convert_length(
    value: float,
    from_unit: Literal["meters", "kilometers", "miles", "feet", "inches"],
    to_unit: Literal["meters", "kilometers", "miles", "feet", "inches"],
) -> float:
    """Convert a length between units.

    Args:
      value: Length to convert.
      from_unit: Unit of the given value.
      to_unit: Unit wanted.
    """
    meters = {"meters": 1.0, "kilometers": 1000.0, "miles": 1609.344, "feet": 0.3048, "inches": 0.0254}
    return value * meters[from_unit] / meters[to_unit]


@api(
    "Convert {value} {from_unit} to {to_unit}.",
    "The parcel weighs {value} {from_unit}. How much is that in {to_unit}?",
    "{value} {from_unit} to {to_unit}",
    name="convert_weight",
    joint=_between(("grams", "kilograms", "pounds", "ounces"), nums(1, 500, 1)),
    edge={"from_unit": ["stone"]},
)
def convert_weight(
    value: float,
    from_unit: Literal["grams", "kilograms", "pounds", "ounces"],
    to_unit: Literal["grams", "kilograms", "pounds", "ounces"],
) -> float:
    """Convert a weight between units.

    Args:
      value: Weight to convert.
      from_unit: Unit of the given value.
      to_unit: Unit wanted.
    """
    grams = {"grams": 1.0, "kilograms": 1000.0, "pounds": 453.59237, "ounces": 28.349523125}
    return value * grams[from_unit] / grams[to_unit]


@api(
    "How fast is {value} {from_unit} in {to_unit}?",
    "The wind blows at {value} {from_unit}. Convert that speed to {to_unit}.",
    "speed: {value} {from_unit} as {to_unit}",
    name="convertSpeed",
    joint=_between(("km/h", "mph", "m/s", "knots"), nums(2, 300, 1)),
)
def convert_speed(
    value: float,
    from_unit: Literal["km/h", "mph", "m/s", "knots"],
    to_unit: Literal["km/h", "mph", "m/s", "knots"],
) -> float:
    """Convert a speed between units.

    Args:
      value: Speed to convert.
      from_unit: Unit of the given value.
      to_unit: Unit wanted.
    """
    mps = {"km/h": 1 / 3.6, "mph": 0.44704, "m/s": 1.0, "knots": 0.514444}
    return value * mps[from_unit] / mps[to_unit]


@api(
    "How many {to_unit} make {value} {from_unit}?",
    "A recipe needs {value} {from_unit}. How many {to_unit} is that?",
    "{value} {from_unit} in {to_unit}, volume",
    name="convert_volume",
    joint=_between(("liters", "milliliters", "cups", "gallons"), nums(1, 60, 1)),
)
def convert_volume(
    value: float,
    from_unit: Literal["liters", "milliliters", "cups", "gallons"],
    to_unit: Literal["liters", "milliliters", "cups", "gallons"],
) -> float:
    """Convert a volume between units.

    Args:
      value: Volume to convert.
      from_unit: Unit of the given value.
      to_unit: Unit wanted.
    """
    liters = {"liters": 1.0, "milliliters": 0.001, "cups": 0.2365882365, "gallons": 3.785411784}
    return value * liters[from_unit] / liters[to_unit]


@api(
    "Write {size} bytes in a human-readable way.",
    "A file has {size} bytes. How large is that in readable units?",
    ("Show {size} bytes with binary prefixes such as MiB.", {"binary": True}),
    ("humanize {size} bytes, binary units", {"binary": True}),
    name="format_bytes",
    give={"size": ints(2000, 9_000_000_000)},
)
def format_bytes(size: int, binary: bool = False) -> str:
    """Format a number of bytes for people.

    Args:
      size: Number of bytes.
      binary: Whether to use powers of 1024.
    """
    step, value, power = (1024 if binary else 1000), float(size), 0
    while value >= step and power < 4:
        value, power = value / step, power + 1
    unit = (("B", "KiB", "MiB", "GiB", "TiB") if binary else ("B", "kB", "MB", "GB", "TB"))[power]
    return f"{value:.1f} {unit}"


@api(
    "How long is {seconds} seconds in hours, minutes and seconds?",
    "The download takes {seconds} seconds. Write that as h:mm:ss.",
    "{seconds} s as h:mm:ss",
    name="duration.format",
    give={"seconds": ints(400, 90000)},
)
def format_duration(seconds: int) -> str:
    """Format seconds as hours, minutes and seconds.

    Args:
      seconds: Duration in seconds.
    """
    return str(datetime.timedelta(seconds=seconds))


@api(
    "How many seconds are {hours} hours, {minutes} minutes and {seconds} seconds?",
    "My marathon took {hours} h {minutes} min {seconds} s. What's that in seconds?",
    "total seconds of {hours} hours {minutes} minutes",
    name="to_seconds",
    give={"hours": ints(2, 12), "minutes": ints(2, 59), "seconds": ints(2, 59)},
)
def to_seconds(hours: int, minutes: int, seconds: int = 0) -> int:
    """Convert a duration to seconds.

    Args:
      hours: Hours.
      minutes: Minutes.
      seconds: Seconds.
    """
    return hours * 3600 + minutes * 60 + seconds


@api(
    "My car uses {liters} liters per 100 km. What's that in US miles per gallon?",
    "Convert {liters} l/100km to mpg.",
    "{liters} L per 100 km in mpg",
    name="fuelEconomy.toMpg",
    give={"liters": nums(3, 15, 1)},
    edge={"liters": [0]},
)
def liters_to_mpg(liters: float) -> float:
    """Convert fuel consumption to US miles per gallon.

    Args:
      liters: Liters per 100 kilometers.
    """
    return 235.214583 / liters


@api(
    "How tall is {feet} feet {inches} inches in centimeters?",
    "I'm {feet} ft {inches} in. What is that in cm?",
    "height {feet}'{inches} in centimeters",
    name="height_to_cm",
    give={"feet": ints(4, 7), "inches": ints(1, 11)},
)
def height_to_cm(feet: int, inches: int) -> float:
    """Convert a height to centimeters.

    Args:
      feet: Whole feet.
      inches: Remaining inches.
    """
    return (feet * 12 + inches) * 2.54


@api(
    "How many {to_unit} are {value} {from_unit} of pressure?",
    "My tire pressure is {value} {from_unit}; what is it in {to_unit}?",
    "pressure {value} {from_unit} in {to_unit}",
    name="convert_pressure",
    joint=_between(("bar", "psi", "atm", "kPa"), nums(1, 200, 1)),
)
def convert_pressure(
    value: float, from_unit: Literal["bar", "psi", "atm", "kPa"], to_unit: Literal["bar", "psi", "atm", "kPa"]
) -> float:
    """Convert a pressure between units.

    Args:
      value: Pressure to convert.
      from_unit: Unit of the given value.
      to_unit: Unit wanted.
    """
    kpa = {"bar": 100.0, "psi": 6.894757, "atm": 101.325, "kPa": 1.0}
    return value * kpa[from_unit] / kpa[to_unit]
