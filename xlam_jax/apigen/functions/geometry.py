"""Shapes, angles and coordinates."""

from __future__ import annotations

import cmath
import itertools
import math
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import decimals, ints, lists, nums, pick

_SIDE = nums(2, 90, 1)
_POINT = lists(decimals(-20, 20, 1), 2, 2)


@api(
    "How far apart are the points {start} and {end}?",
    "Distance from {start} to {end}?",
    "On my map the camp is at {start} and the lake at {end}. What's the straight-line distance?",
    name="point_distance",
    alike="distance",
    give={"start": _POINT, "end": _POINT},
)
def point_distance(start: list[float], end: list[float]) -> float:
    """Compute the straight-line distance of two points.

    Args:
      start: Coordinates of the first point.
      end: Coordinates of the second point.
    """
    return math.dist(start, end)


@api(
    "A right triangle has legs {a} and {b}. How long is the hypotenuse?",
    "hypotenuse for legs {a} and {b}",
    "A ladder stands {a} m from the wall and reaches {b} m up. How long is it?",
    name="geometry.hypotenuse",
    alike="triangle",
    give={"a": _SIDE, "b": _SIDE},
)
def hypotenuse(a: float, b: float) -> float:
    """Compute the hypotenuse of a right triangle.

    Args:
      a: Length of one leg.
      b: Length of the other leg.
    """
    return math.hypot(a, b)


@api(
    "What's the area of a circle with radius {radius}?",
    "My round table has a radius of {radius} cm. How much area does it cover?",
    "circle area, r = {radius}",
    name="circle_area",
    alike="circle",
    give={"radius": _SIDE},
)
def circle_area(radius: float) -> float:
    """Compute the area of a circle.

    Args:
      radius: Radius of the circle.
    """
    return math.pi * radius**2


@api(
    "What is the circumference of a circle of diameter {diameter}?",
    "A wheel is {diameter} cm across. How far does it roll in one turn?",
    "circumference for diameter {diameter}",
    name="circleCircumference",
    alike="circle",
    give={"diameter": _SIDE},
)
def circle_circumference(diameter: float) -> float:
    """Compute the circumference of a circle.

    Args:
      diameter: Diameter of the circle.
    """
    return math.pi * diameter


@api(
    "What's the volume of a sphere with radius {radius}?",
    "How much air fits in a ball of radius {radius}?",
    "sphere volume r={radius}",
    name="sphere_volume",
    alike="sphere",
    give={"radius": _SIDE},
)
def sphere_volume(radius: float) -> float:
    """Compute the volume of a sphere.

    Args:
      radius: Radius of the sphere.
    """
    return 4 / 3 * math.pi * radius**3


@api(
    "How big is a cylinder of radius {radius} and height {height}?",
    "Volume of a can with radius {radius} and height {height}?",
    "cylinder volume: radius {radius}, height {height}",
    name="geometry.cylinderVolume",
    give={"radius": _SIDE, "height": _SIDE},
)
def cylinder_volume(radius: float, height: float) -> float:
    """Compute the volume of a cylinder.

    Args:
      radius: Radius of the base.
      height: Height of the cylinder.
    """
    return math.pi * radius**2 * height


@api(
    "Find the area of a triangle with sides {a}, {b} and {c}.",
    "My triangular garden has sides of {a}, {b} and {c} meters. What's its area?",
    "triangle area from sides {a}, {b}, {c}",
    name="triangle_area",
    alike="triangle",
    joint=lambda r: (lambda a, b: {"a": a, "b": b, "c": r.randint(abs(a - b) + 1, a + b - 1)})(
        r.randint(3, 30), r.randint(3, 30)
    ),
    edge={"c": [99]},
)
def triangle_area(a: float, b: float, c: float) -> float:
    """Compute the area of a triangle from its sides.

    Args:
      a: First side.
      b: Second side.
      c: Third side.
    """
    s = (a + b + c) / 2
    return math.sqrt(s * (s - a) * (s - b) * (s - c))


@api(
    "Convert {degrees} degrees to radians.",
    "How many radians is an angle of {degrees} degrees?",
    "{degrees} deg in rad",
    name="degrees_to_radians",
    alike="angle",
    give={"degrees": ints(5, 355, 5)},
)
def degrees_to_radians(degrees: float) -> float:
    """Convert degrees to radians.

    Args:
      degrees: Angle in degrees.
    """
    return math.radians(degrees)


@api(
    "What's the {function} of {degrees} degrees?",
    "Compute the {function} for an angle of {degrees} degrees.",
    "{function} of {degrees}°",
    name="trig",
    give={"degrees": ints(5, 175, 5)},
)
def trigonometry(function: Literal["sine", "cosine", "tangent"], degrees: float) -> float:
    """Evaluate a trigonometric function.

    Args:
      function: Function to evaluate.
      degrees: Angle in degrees.
    """
    return {"sine": math.sin, "cosine": math.cos, "tangent": math.tan}[function](math.radians(degrees))


@api(
    "Convert the point x = {x}, y = {y} to polar coordinates.",
    "polar form of ({x}, {y})",
    "My robot sits at x {x} and y {y}. What's its position in polar coordinates?",
    name="toPolar",
    give={"x": nums(-30, 30, 1), "y": nums(-30, 30, 1)},
)
def to_polar(x: float, y: float) -> dict[str, float]:
    """Convert Cartesian to polar coordinates.

    Args:
      x: Horizontal coordinate.
      y: Vertical coordinate.
    """
    radius, angle = cmath.polar(complex(x, y))
    return {"radius": radius, "angle": angle}


@api(
    "What area does the polygon with corners {points} enclose?",
    "The lot has its corners at {points}. How large is it?",
    "polygon area, vertices {points}",
    name="polygon_area",
    give={"points": lists(_POINT, 3, 4)},
)
def polygon_area(points: list[list[float]]) -> float:
    """Compute the area of a simple polygon.

    Args:
      points: Corner coordinates in order.
    """
    edges = itertools.pairwise([*points, points[0]])
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in edges)) / 2


@api(
    "How far is it from latitude {lat1}, longitude {lon1} to latitude {lat2}, longitude {lon2}?",
    "Great-circle distance between ({lat1}, {lon1}) and ({lat2}, {lon2})?",
    "A plane flies from lat {lat1}, lon {lon1} to lat {lat2}, lon {lon2}. How many kilometers?",
    "distance in {unit} from lat {lat1} lon {lon1} to lat {lat2} lon {lon2}",
    name="geo.distance",
    alike="distance",
    give={
        "lat1": decimals(-60, 65, 2),
        "lon1": decimals(-170, 170, 2),
        "lat2": decimals(-60, 65, 2),
        "lon2": decimals(-170, 170, 2),
        "unit": pick("miles"),
    },
)
def great_circle_distance(
    lat1: float, lon1: float, lat2: float, lon2: float, unit: Literal["kilometers", "miles"] = "kilometers"
) -> float:
    """Compute the great-circle distance of two places.

    Args:
      lat1: Latitude of the first place.
      lon1: Longitude of the first place.
      lat2: Latitude of the second place.
      lon2: Longitude of the second place.
      unit: Unit of the result.
    """
    a, b, dlon = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(dlon / 2) ** 2
    return (6371.0 if unit == "kilometers" else 3958.8) * 2 * math.asin(math.sqrt(h))


@api(
    "What's the dot product of {first} and {second}?",
    "dot product: {first} . {second}",
    "Take the scalar product of the vectors {first} and {second}.",
    name="vector.dot",
    joint=lambda r: (
        lambda n: {
            "first": [r.randint(-9, 9) for _ in range(n)],
            "second": [r.randint(-9, 9) for _ in range(n)],
        }
    )(r.randint(2, 4)),
    edge={"second": [[1]]},
)
def dot_product(first: list[int], second: list[int]) -> int:
    """Compute the dot product of two vectors.

    Args:
      first: First vector.
      second: Second vector.
    """
    return sum(a * b for a, b in zip(first, second, strict=True))


@api(
    "How large is each interior angle of a regular polygon with {sides} sides?",
    "interior angle, regular {sides}-gon",
    "I'm cutting tiles with {sides} equal sides. What interior angle do I need?",
    name="interior_angle",
    alike="angle",
    give={"sides": ints(5, 24)},
    edge={"sides": [0]},
)
def interior_angle(sides: int) -> float:
    """Compute the interior angle of a regular polygon.

    Args:
      sides: Number of sides.
    """
    return (sides - 2) * 180 / sides


@api(
    "What's the perimeter of a {width} by {length} rectangle?",
    "How much fence do I need around a yard {width} m wide and {length} m long?",
    "rectangle perimeter, width {width}, length {length}",
    name="rectanglePerimeter",
    give={"width": _SIDE, "length": _SIDE},
)
def rectangle_perimeter(width: float, length: float) -> float:
    """Compute the perimeter of a rectangle.

    Args:
      width: Width of the rectangle.
      length: Length of the rectangle.
    """
    return 2 * (width + length)
