"""Physics, health and everyday science by formula."""

from __future__ import annotations

import math
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints, nums, pick


@api(
    "What's the body mass index of someone weighing {weight} kg at a height of {height} m?",
    "I weigh {weight} kilos and I'm {height} meters tall. What's my BMI?",
    "BMI: {weight} kg, {height} m",
    name="calculate_bmi",
    give={"weight": nums(45, 120, 1), "height": nums(1.45, 2.0, 2)},
    edge={"height": [0]},
)
def calculate_bmi(weight: float, height: float) -> float:
    """Compute the body mass index.

    Args:
      weight: Weight in kilograms.
      height: Height in meters.
    """
    return round(weight / height**2, 1)


@api(
    "What's the kinetic energy of a {mass} kg object moving at {speed} m/s?",
    "A cart of {mass} kg rolls at {speed} m/s. How much kinetic energy does it have?",
    "kinetic energy, mass {mass}, speed {speed}",
    name="physics.kineticEnergy",
    give={"mass": nums(1, 900, 1), "speed": nums(1, 60, 1)},
)
def kinetic_energy(mass: float, speed: float) -> float:
    """Compute kinetic energy in joules.

    Args:
      mass: Mass in kilograms.
      speed: Speed in meters per second.
    """
    return mass * speed**2 / 2


@api(
    "What current flows through {resistance} ohms at {voltage} volts?",
    "I connect a {resistance} ohm resistor to {voltage} V. What's the current?",
    "current: {voltage} V across {resistance} ohm",
    name="ohms_law_current",
    alike="electric",
    give={"voltage": nums(1.5, 240, 1), "resistance": ints(10, 5000, 10)},
    edge={"resistance": [0]},
)
def ohms_law_current(voltage: float, resistance: float) -> float:
    """Compute the electric current by Ohm's law.

    Args:
      voltage: Voltage in volts.
      resistance: Resistance in ohms.
    """
    return voltage / resistance


@api(
    "How many grams remain of {amount} g after {time} years with a half-life of {half_life} years?",
    "Starting from {amount} units, half-life {half_life}, how much is left after time {time}?",
    "decay: amount {amount}, half-life {half_life}, time {time}",
    name="radioactiveDecay",
    give={"amount": ints(10, 900, 10), "half_life": nums(2, 80, 1), "time": ints(3, 200)},
    edge={"half_life": [0]},
)
def remaining_after_decay(amount: float, half_life: float, time: float) -> float:
    """Compute what remains after exponential decay.

    Args:
      amount: Initial amount.
      half_life: Half-life.
      time: Elapsed time, in the unit of the half-life.
    """
    return amount * 0.5 ** (time / half_life)


@api(
    "How long does a stone take to fall {height} meters?",
    "Something drops from {height} m. After how many seconds does it land?",
    "How long is the fall from {height} m with a gravity of {gravity} m/s²?",
    "fall time: height {height}, gravity {gravity}",
    name="free_fall_time",
    give={"height": nums(2, 400, 1), "gravity": pick(1.62, 3.71, 8.87, 24.79)},
    edge={"height": [-20]},
)
def free_fall_time(height: float, gravity: float = 9.81) -> float:
    """Compute the time of a free fall in seconds.

    Args:
      height: Height in meters.
      gravity: Acceleration in m/s².
    """
    return math.sqrt(2 * height / gravity)


@api(
    "What's the density of {mass} grams filling {volume} cubic centimeters?",
    "A rock weighs {mass} g and displaces {volume} cm³. What's its density?",
    "density for mass {mass} and volume {volume}",
    name="material.density",
    give={"mass": nums(5, 900, 1), "volume": nums(2, 300, 1)},
    edge={"volume": [0]},
)
def density(mass: float, volume: float) -> float:
    """Compute the density of a body.

    Args:
      mass: Mass in grams.
      volume: Volume in cubic centimeters.
    """
    return mass / volume


@api(
    "How many kilowatt-hours does a {watts} watt device use in {hours} hours a day over {days} days?",
    "My heater draws {watts} W and runs {hours} hours daily. How much energy is that in {days} days?",
    "kWh: {watts} W, {hours} h per day, {days} days",
    name="energy_consumption",
    alike="electric",
    give={"watts": ints(20, 2500, 10), "hours": nums(1, 20, 1), "days": ints(2, 60)},
)
def energy_consumption(watts: float, hours: float, days: int) -> float:
    """Compute electric energy use in kilowatt-hours.

    Args:
      watts: Power in watts.
      hours: Hours of use per day.
      days: Number of days.
    """
    return watts * hours * days / 1000


@api(
    "What's the wavelength of a {frequency} Hz sound?",
    "Wavelength for a tone of {frequency} hertz, please.",
    "How long is a sound wave of {frequency} Hz where sound travels at {speed} m/s?",
    "wavelength: frequency {frequency}, speed {speed}",
    name="sound.wavelength",
    give={"frequency": ints(40, 9000), "speed": ints(300, 1500, 10)},
    edge={"frequency": [0]},
)
def wavelength(frequency: float, speed: float = 343.0) -> float:
    """Compute the wavelength of a sound in meters.

    Args:
      frequency: Frequency in hertz.
      speed: Speed of sound in meters per second.
    """
    return speed / frequency


@api(
    "What's the daily calorie need of a {sex} person of {age} years, {weight} kg and {height} cm, at rest?",
    "Basal metabolic rate: {sex}, {age} years old, {weight} kg, {height} cm.",
    "I'm {age}, {sex}, {weight} kg and {height} cm tall. What's my basal metabolic rate?",
    name="basalMetabolicRate",
    give={"age": ints(18, 80), "weight": ints(45, 120), "height": ints(150, 200)},
)
def basal_metabolic_rate(sex: Literal["female", "male"], age: int, weight: float, height: float) -> float:
    """Estimate the basal metabolic rate in kilocalories a day.

    Args:
      sex: Sex of the person.
      age: Age in years.
      weight: Weight in kilograms.
      height: Height in centimeters.
    """
    return 10 * weight + 6.25 * height - 5 * age + (5 if sex == "male" else -161)


@api(
    "How fast must I run to cover {distance} km in {minutes} minutes, as minutes per kilometer?",
    "I ran {distance} kilometers in {minutes} minutes. What was my pace per km?",
    "running pace: {distance} km, {minutes} min",
    name="running_pace",
    give={"distance": nums(3, 42, 1), "minutes": ints(15, 300)},
    edge={"distance": [0]},
)
def running_pace(distance: float, minutes: float) -> str:
    """Compute a running pace as minutes and seconds per kilometer.

    Args:
      distance: Distance in kilometers.
      minutes: Time in minutes.
    """
    whole, seconds = divmod(round(minutes * 60 / distance), 60)
    return f"{whole}:{seconds:02d}"


@api(
    "How much stock solution of concentration {stock} do I need for {volume} ml at concentration {target}?",
    "Dilute a stock of {stock} to {volume} ml of {target}. How much stock goes in?",
    "dilution: stock {stock}, target {target}, final volume {volume}",
    name="dilution_volume",
    joint=lambda r: {
        "stock": r.randint(20, 100),
        "target": r.randint(1, 19),
        "volume": r.randrange(50, 2000, 50),
    },
    edge={"stock": [0]},
)
def dilution_volume(stock: float, target: float, volume: float) -> float:
    """Compute the volume of stock solution for a dilution.

    Args:
      stock: Concentration of the stock.
      target: Concentration wanted.
      volume: Final volume.
    """
    return target * volume / stock


@api(
    "How many decibels is a power ratio of {ratio}?",
    "An amplifier multiplies the power by {ratio}. What's the gain in dB?",
    "power ratio {ratio} in dB",
    name="toDecibels",
    give={"ratio": nums(1.5, 900, 1)},
    edge={"ratio": [0, -2]},
)
def to_decibels(ratio: float) -> float:
    """Convert a power ratio to decibels.

    Args:
      ratio: Power ratio.
    """
    return 10 * math.log10(ratio)
