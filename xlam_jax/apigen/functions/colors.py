"""Colour models and contrast."""

from __future__ import annotations

import colorsys
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import channel, hexcolor, ints, nums

_RGB = {"red": channel, "green": channel, "blue": channel}


def _parse(color: str) -> tuple[int, int, int]:
    digits = color.removeprefix("#")
    if len(digits) != 6:
        raise ValueError(f"not a six-digit hex color: {color}")
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def _hex(red: float, green: float, blue: float) -> str:
    return f"#{round(red):02X}{round(green):02X}{round(blue):02X}"


def _luminance(color: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _parse(color))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@api(
    "Convert RGB {red}, {green}, {blue} to a hex color.",
    "What's the hex code for red {red}, green {green} and blue {blue}?",
    "hex for rgb({red}, {green}, {blue})",
    "My paint app shows R {red} G {green} B {blue}; I need that as a hex code for CSS.",
    name="rgb_to_hex",
    give=_RGB,
    edge={"green": [99.5]},
)
def rgb_to_hex(red: int, green: int, blue: int) -> str:
    """Convert RGB channels to a hex color code.

    Args:
      red: Red channel, 0 to 255.
      green: Green channel, 0 to 255.
      blue: Blue channel, 0 to 255.
    """
    return _hex(red, green, blue)


@api(
    "What are the RGB values of {color}?",
    "Convert {color} to red, green and blue.",
    "{color} in RGB?",
    "The style guide says {color}. Which RGB triple is that?",
    name="hexToRgb",
    give={"color": hexcolor},
    edge={"color": ["#12345", "#GG0011"]},
)
def hex_to_rgb(color: str) -> list[int]:
    """Convert a hex color code to RGB channels.

    Args:
      color: Hex color code.
    """
    return list(_parse(color))


@api(
    "Convert RGB {red}, {green}, {blue} to HSV.",
    "What hue, saturation and value does rgb({red}, {green}, {blue}) have?",
    "HSV of red {red}, green {green}, blue {blue}",
    name="colors.rgbToHsv",
    alike="rgb",
    give=_RGB,
)
def rgb_to_hsv(red: int, green: int, blue: int) -> list[float]:
    """Convert RGB channels to hue, saturation and value.

    Args:
      red: Red channel, 0 to 255.
      green: Green channel, 0 to 255.
      blue: Blue channel, 0 to 255.
    """
    return [round(v, 4) for v in colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)]


@api(
    "Convert RGB {red}, {green}, {blue} to HLS.",
    "What are hue, lightness and saturation of rgb({red}, {green}, {blue})?",
    "HLS values for red {red}, green {green}, blue {blue}",
    name="rgb_to_hls",
    alike="rgb",
    give=_RGB,
)
def rgb_to_hls(red: int, green: int, blue: int) -> list[float]:
    """Convert RGB channels to hue, lightness and saturation.

    Args:
      red: Red channel, 0 to 255.
      green: Green channel, 0 to 255.
      blue: Blue channel, 0 to 255.
    """
    return [round(v, 4) for v in colorsys.rgb_to_hls(red / 255, green / 255, blue / 255)]


@api(
    "Which hex color has hue {hue} degrees, saturation {saturation}% and value {value}%?",
    "Convert HSV {hue}, {saturation}, {value} to hex.",
    "hsv({hue}, {saturation}%, {value}%) as a hex code",
    name="hsv_to_hex",
    give={"hue": ints(0, 359), "saturation": ints(5, 100), "value": ints(10, 100)},
)
def hsv_to_hex(hue: float, saturation: float, value: float) -> str:
    """Convert HSV to a hex color code.

    Args:
      hue: Hue in degrees.
      saturation: Saturation in percent.
      value: Brightness in percent.
    """
    return _hex(*(255 * c for c in colorsys.hsv_to_rgb(hue / 360, saturation / 100, value / 100)))


@api(
    "What's the contrast ratio between {foreground} and {background}?",
    "Is {foreground} text readable on {background}? Give me the contrast ratio.",
    "WCAG contrast of {foreground} on {background}",
    "Check the contrast for text color {foreground} over {background}.",
    name="contrast_ratio",
    give={"foreground": hexcolor, "background": hexcolor},
)
def contrast_ratio(foreground: str, background: str) -> float:
    """Compute the WCAG contrast ratio of two colors.

    Args:
      foreground: Hex color of the text.
      background: Hex color behind it.
    """
    low, high = sorted((_luminance(foreground), _luminance(background)))
    return round((high + 0.05) / (low + 0.05), 2)


@api(
    "How bright is {color}, as relative luminance?",
    "relative luminance of {color}",
    "Compute the relative luminance of the color {color}.",
    name="color.luminance",
    give={"color": hexcolor},
)
def relative_luminance(color: str) -> float:
    """Compute the relative luminance of a color.

    Args:
      color: Hex color code.
    """
    return round(_luminance(color), 4)


@api(
    "Mix {first} and {second}.",
    "Blend {first} with {second}, using a share of {weight} for the second color.",
    "What color do I get halfway between {first} and {second}?",
    "blend {first} + {second}, weight {weight}",
    name="blendColors",
    give={"first": hexcolor, "second": hexcolor, "weight": nums(0.1, 0.9, 1)},
)
def blend_colors(first: str, second: str, weight: float = 0.5) -> str:
    """Blend two colors.

    Args:
      first: Hex color code.
      second: Hex color code.
      weight: Share of the second color, 0 to 1.
    """
    return _hex(*(a + (b - a) * weight for a, b in zip(_parse(first), _parse(second), strict=True)))


@api(
    "What's the inverse of the color {color}?",
    "Invert {color}.",
    "opposite color of {color}, each channel inverted",
    name="invert_color",
    alike="complement",
    give={"color": hexcolor},
)
def invert_color(color: str) -> str:
    """Invert every channel of a color.

    Args:
      color: Hex color code.
    """
    return _hex(*(255 - c for c in _parse(color)))


@api(
    "Convert {color} to grayscale.",
    "What shade of gray matches {color}?",
    "grayscale of {color} by the {method} method",
    "Turn {color} gray using {method}.",
    name="to_grayscale",
    give={"color": hexcolor},
)
def to_grayscale(color: str, method: Literal["luma", "average", "lightness"] = "luma") -> str:
    """Convert a color to gray.

    Args:
      color: Hex color code.
      method: How the gray level is computed.
    """
    r, g, b = _parse(color)
    luma, mean, light = 0.299 * r + 0.587 * g + 0.114 * b, (r + g + b) / 3, (max(r, g, b) + min(r, g, b)) / 2
    gray = {"luma": luma, "average": mean, "lightness": light}[method]
    return _hex(gray, gray, gray)


@api(
    "Make {color} {percent}% lighter.",
    "Lighten {color} by {percent} percent.",
    "The button color {color} is too dark; brighten it by {percent}%.",
    name="lighten",
    give={"color": hexcolor, "percent": ints(5, 60, 5)},
)
def lighten(color: str, percent: float) -> str:
    """Move a color towards white.

    Args:
      color: Hex color code.
      percent: How far, in percent.
    """
    return _hex(*(c + (255 - c) * percent / 100 for c in _parse(color)))
