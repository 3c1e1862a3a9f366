"""Months, years and the Gregorian calendar."""

from __future__ import annotations

import calendar
import datetime
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import ints


@api(
    "Is {year} a leap year?",
    "Does February have 29 days in {year}?",
    "leap year check: {year}",
    "I'm planning a party for {year} and need to know if it's a leap year.",
    name="calendar.isLeapYear",
    give={"year": ints(1850, 2120)},
)
def is_leap_year(year: int) -> bool:
    """Check whether a year is a leap year.

    Args:
      year: Calendar year.
    """
    return calendar.isleap(year)


@api(
    "How many days are in month {month} of {year}?",
    "Number of days in month {month}, year {year}?",
    "For the rent I need the length of month number {month} in {year}, in days.",
    name="days_in_month",
    give={"year": ints(1950, 2060), "month": ints(1, 12)},
    edge={"month": [13, 0]},
)
def days_in_month(year: int, month: int) -> int:
    """Get the number of days in a month.

    Args:
      year: Calendar year.
      month: Month number, 1 to 12.
    """
    return calendar.monthrange(year, month)[1]


@api(
    "On which dates does month {month} of {year} have a Friday the 13th?",
    "Which months of {year} have a Friday the 13th?",
    "friday the 13ths in {year}",
    "I'm superstitious: list the Friday the 13ths of {year}, please.",
    name="find_friday_13ths",
    give={"year": ints(1960, 2060), "month": ints(1, 12)},
)
def friday_13ths(year: int, month: int | None = None) -> list[str]:
    """List every Friday the 13th of a year.

    Args:
      year: Calendar year.
      month: Month to restrict to.
    """
    days = [datetime.date(year, m, 13) for m in ([month] if month else range(1, 13))]
    return [d.isoformat() for d in days if d.weekday() == 4]


@api(
    "Which date is {weekday} number {n} of month {month} in {year}?",
    "Our club meets on {weekday} number {n} of the month. What date is that in month {month} of {year}?",
    "date of {weekday} no. {n}, month {month}, {year}",
    name="nthWeekday",
    give={"year": ints(1990, 2045), "month": ints(1, 12), "n": ints(1, 4)},
    edge={"month": [14], "n": [6]},
)
def nth_weekday(
    year: int,
    month: int,
    weekday: Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    n: int,
) -> str:
    """Find the date of the n-th given weekday of a month.

    Args:
      year: Calendar year.
      month: Month number, 1 to 12.
      weekday: Weekday name.
      n: Which occurrence in the month.
    """
    index = list(calendar.day_name).index(weekday)
    days = [
        d
        for d in calendar.Calendar().itermonthdates(year, month)
        if d.month == month and d.weekday() == index
    ]
    return days[n - 1].isoformat()


@api(
    "What's the name of month number {month}?",
    ("Give me the abbreviated name of month {month}.", {"abbreviated": True}),
    "Which month comes as number {month} in the calendar?",
    ("short name for month {month}?", {"abbreviated": True}),
    name="month_name",
    give={"month": ints(1, 12)},
    edge={"month": [15]},
)
def month_name(month: int, abbreviated: bool = False) -> str:
    """Get the English name of a month.

    Args:
      month: Month number, 1 to 12.
      abbreviated: Whether to return the short name.
    """
    return (calendar.month_abbr if abbreviated else calendar.month_name)[month]


@api(
    "In which quarter is month {month}?",
    "Month {month} belongs to which quarter?",
    "My fiscal year starts in month {fiscal_start}. Which quarter is month {month}?",
    "quarter of month {month} with fiscal year start {fiscal_start}",
    name="calendar.getQuarter",
    give={"month": ints(1, 12), "fiscal_start": ints(2, 12)},
)
def get_quarter(month: int, fiscal_start: int = 1) -> int:
    """Get the quarter that a month belongs to.

    Args:
      month: Month number, 1 to 12.
      fiscal_start: Month in which the fiscal year starts.
    """
    return (month - fiscal_start) % 12 // 3 + 1


@api(
    "Print a calendar of month {month} in {year}.",
    "Show me the month calendar for month {month}, {year}.",
    (
        "I'd like a calendar page for month {month} of {year}, weeks starting on Sunday.",
        {"week_start": "Sunday"},
    ),
    ("calendar for {year} month {month}, Monday first", {"week_start": "Monday"}),
    name="render_month",
    give={"year": ints(1990, 2045), "month": ints(1, 12)},
    edge={"month": [0]},
)
def render_month(year: int, month: int, week_start: Literal["Monday", "Sunday"] = "Monday") -> str:
    """Render a text calendar of one month.

    Args:
      year: Calendar year.
      month: Month number, 1 to 12.
      week_start: First day of the week.
    """
    return calendar.TextCalendar(0 if week_start == "Monday" else 6).formatmonth(year, month)


@api(
    "How many weeks does the ISO year {year} have?",
    "Does {year} have 52 or 53 ISO weeks?",
    "number of ISO weeks in {year}",
    name="weeks_in_year",
    give={"year": ints(1960, 2060)},
)
def weeks_in_year(year: int) -> int:
    """Count the ISO weeks of a year.

    Args:
      year: Calendar year.
    """
    return datetime.date(year, 12, 28).isocalendar().week


@api(
    "What century does the year {year} belong to?",
    "The castle was built in {year}. Which century is that?",
    "century of year {year}",
    name="getCentury",
    give={"year": ints(900, 2090)},
)
def get_century(year: int) -> int:
    """Get the century number of a year.

    Args:
      year: Calendar year.
    """
    return (year - 1) // 100 + 1


@api(
    "On what weekday does month {month} of {year} begin?",
    "Which day of the week is the first of month {month} in {year}?",
    "first weekday of {year}, month {month}",
    alike="weekday",
    give={"year": ints(1960, 2060), "month": ints(1, 12)},
)
def month_start_weekday(year: int, month: int) -> str:
    """Get the weekday on which a month begins.

    Args:
      year: Calendar year.
      month: Month number, 1 to 12.
    """
    return calendar.day_name[calendar.monthrange(year, month)[0]]


@api(
    "When is the last {weekday} of month {month} in {year}?",
    "We always pay on the last {weekday}. What date is that for month {month} of {year}?",
    "last {weekday}, month {month}, year {year}",
    name="last_weekday_of_month",
    give={"year": ints(1990, 2045), "month": ints(1, 12)},
)
def last_weekday(
    year: int,
    month: int,
    weekday: Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
) -> str:
    """Find the last given weekday of a month.

    Args:
      year: Calendar year.
      month: Month number, 1 to 12.
      weekday: Weekday name.
    """
    index = list(calendar.day_name).index(weekday)
    days = [
        d
        for d in calendar.Calendar().itermonthdates(year, month)
        if d.month == month and d.weekday() == index
    ]
    return days[-1].isoformat()
