"""Days, weeks and timestamps."""

from __future__ import annotations

import datetime
from typing import Literal

from xlam_jax.apigen.functions.declare import api
from xlam_jax.apigen.functions.samples import dates, datetimes, ints, ordered, pick, times


@api(
    "What day of the week was {date}?",
    "Which weekday is {date}?",
    "I was born on {date}. What weekday was that?",
    "weekday for {date}",
    name="get_weekday",
    alike="weekday",
    give={"date": dates(1940, 2040)},
    edge={"date": ["2023-02-30", "2021-13-05"]},
)
def get_weekday(date: str) -> str:
    """Get the weekday name of a date.

    Args:
      date: Date (YYYY-MM-DD).
    """
    return datetime.date.fromisoformat(date).strftime("%A")


@api(
    "How many days are there between {start_date} and {end_date}?",
    "My visa runs from {start_date} to {end_date}. How many days is that?",
    "days from {start_date} to {end_date}?",
    "Count the days between {start_date} and {end_date}, please.",
    joint=ordered(dates(2005, 2032), ("start_date", "end_date")),
    edge={"end_date": ["2024-02-31"]},
)
def days_between(start_date: str, end_date: str) -> int:
    """Count the days between two dates.

    Args:
      start_date: First date (YYYY-MM-DD).
      end_date: Second date (YYYY-MM-DD).
    """
    return (datetime.date.fromisoformat(end_date) - datetime.date.fromisoformat(start_date)).days


@api(
    "What date is {days} days after {date}?",
    "The invoice is dated {date} and due in {days} days. When is that?",
    "Add {days} days to {date}.",
    "{date} plus {days} days",
    name="date.addDays",
    alike="date_shift",
    give={"date": dates(1990, 2032), "days": ints(3, 400)},
)
def add_days(date: str, days: int) -> str:
    """Add days to a date.

    Args:
      date: Start date (YYYY-MM-DD).
      days: Number of days to add.
    """
    return (datetime.date.fromisoformat(date) + datetime.timedelta(days)).isoformat()


@api(
    "Which date is {weeks} weeks before {date}?",
    "The exam is on {date} and I want to start studying {weeks} weeks ahead. From which date?",
    "{weeks} weeks prior to {date}",
    alike="date_shift",
    give={"date": dates(1990, 2032), "weeks": ints(2, 40)},
)
def subtract_weeks(date: str, weeks: int) -> str:
    """Go back a number of weeks from a date.

    Args:
      date: Date to count from (YYYY-MM-DD).
      weeks: Number of weeks to subtract.
    """
    return (datetime.date.fromisoformat(date) - datetime.timedelta(weeks=weeks)).isoformat()


@api(
    "What is the ISO week number of {date}?",
    "In which calendar week does {date} fall?",
    "week number for {date}",
    give={"date": dates(1980, 2035)},
)
def get_week_number(date: str) -> int:
    """Get the ISO week number of a date.

    Args:
      date: Date (YYYY-MM-DD).
    """
    return datetime.date.fromisoformat(date).isocalendar().week


@api(
    "What day of the year is {date}?",
    "Counting from January first, which day number of its year is {date}?",
    "day-of-year number of {date}",
    name="dayOfYear",
    give={"date": dates(1980, 2035)},
)
def day_of_year(date: str) -> int:
    """Get the number of a date within its year.

    Args:
      date: Date (YYYY-MM-DD).
    """
    return datetime.date.fromisoformat(date).timetuple().tm_yday


@api(
    "How old is someone born on {birth_date} on {on_date}?",
    "Grandpa was born {birth_date}. What was his age in full years on {on_date}?",
    "age on {on_date} for birth date {birth_date}",
    name="calculate_age",
    joint=lambda r: {"birth_date": dates(1930, 1999)(r), "on_date": dates(2005, 2030)(r)},
)
def calculate_age(birth_date: str, on_date: str) -> int:
    """Compute a person's age in full years on a given day.

    Args:
      birth_date: Date of birth (YYYY-MM-DD).
      on_date: Day to compute the age on (YYYY-MM-DD).
    """
    born, day = datetime.date.fromisoformat(birth_date), datetime.date.fromisoformat(on_date)
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


@api(
    "Convert Unix timestamp {timestamp} to a date and time.",
    "The log says {timestamp}. When was that in UTC?",
    "What moment is epoch second {timestamp}?",
    "{timestamp} as a readable UTC time please",
    name="time.fromUnix",
    give={"timestamp": ints(100_000_000, 1_900_000_000)},
)
def from_unix(timestamp: int) -> str:
    """Convert a Unix timestamp to an ISO time in UTC.

    Args:
      timestamp: Seconds since the epoch.
    """
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC).isoformat()


@api(
    "What's the Unix timestamp of {moment} UTC?",
    "Convert {moment} to epoch seconds.",
    "epoch seconds for {moment}",
    name="to_unix_timestamp",
    give={"moment": datetimes()},
)
def to_unix(moment: str) -> int:
    """Convert a UTC time to a Unix timestamp.

    Args:
      moment: Time (YYYY-MM-DDTHH:MM:SS).
    """
    return int(datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC).timestamp())


@api(
    "Write {date} in {style} format.",
    "I need {date} formatted in {style} style for a form.",
    "format the date {date}, style {style}",
    name="format_date",
    give={"date": dates(1980, 2035)},
)
def format_date(date: str, style: Literal["US", "European", "long", "compact"]) -> str:
    """Format a date in a given style.

    Args:
      date: Date (YYYY-MM-DD).
      style: Output style.
    """
    pattern = {"US": "%m/%d/%Y", "European": "%d.%m.%Y", "long": "%B %d, %Y", "compact": "%Y%m%d"}[style]
    return datetime.date.fromisoformat(date).strftime(pattern)


@api(
    "If it's {time} now, what time is it in {minutes} minutes?",
    "The roast goes in at {time} and needs {minutes} minutes. When is it done?",
    "Add {minutes} minutes to {time}.",
    "{time} + {minutes} min",
    name="clock.addMinutes",
    give={"time": times(), "minutes": ints(15, 400)},
    edge={"time": ["25:30", "12:75"]},
)
def add_minutes(time: str, minutes: int) -> str:
    """Add minutes to a clock time.

    Args:
      time: Time of day (HH:MM).
      minutes: Minutes to add.
    """
    moment = datetime.datetime.combine(datetime.date(2000, 1, 1), datetime.time.fromisoformat(time))
    return (moment + datetime.timedelta(minutes=minutes)).strftime("%H:%M")


@api(
    "How many minutes pass between {start} and {end}?",
    "The film starts at {start} and ends at {end}. How many minutes long is it?",
    "minutes from {start} to {end} on the same day",
    joint=ordered(times(), ("start", "end")),
)
def minutes_between(start: str, end: str) -> int:
    """Count the minutes between two clock times of one day.

    Args:
      start: Start time (HH:MM).
      end: End time (HH:MM).
    """
    first, last = datetime.time.fromisoformat(start), datetime.time.fromisoformat(end)
    return (last.hour - first.hour) * 60 + last.minute - first.minute


@api(
    "How many working days are there from {start_date} to {end_date}?",
    "Our sprint runs {start_date} until {end_date}. How many business days do we have?",
    "business days {start_date} to {end_date}",
    name="count_business_days",
    joint=lambda r: (
        lambda d: {
            "start_date": d,
            "end_date": (datetime.date.fromisoformat(d) + datetime.timedelta(r.randint(5, 90))).isoformat(),
        }
    )(dates(2015, 2030)(r)),
)
def count_business_days(start_date: str, end_date: str) -> int:
    """Count Monday-to-Friday days in a period, both ends included.

    Args:
      start_date: First day (YYYY-MM-DD).
      end_date: Last day (YYYY-MM-DD).
    """
    first, last = datetime.date.fromisoformat(start_date), datetime.date.fromisoformat(end_date)
    span = (last - first).days + 1
    return sum((first + datetime.timedelta(i)).weekday() < 5 for i in range(span))


@api(
    "It's {moment} in a place at UTC offset {from_offset}. What's the local time at UTC offset {to_offset}?",
    "Convert {moment} from UTC offset {from_offset} to UTC offset {to_offset}.",
    "shift {moment}: utc offset {from_offset} -> {to_offset}",
    name="timezone_convert",
    give={"moment": datetimes(2018, 2027), "from_offset": ints(-9, 0), "to_offset": ints(1, 11)},
)
def convert_offset(moment: str, from_offset: int, to_offset: int) -> str:
    """Convert a local time between two UTC offsets.

    Args:
      moment: Local time (YYYY-MM-DDTHH:MM:SS).
      from_offset: UTC offset of the given time, in hours.
      to_offset: UTC offset wanted, in hours.
    """
    shift = datetime.timedelta(hours=to_offset - from_offset)
    return (datetime.datetime.fromisoformat(moment) + shift).isoformat()


@api(
    "When is the next {weekday} after {date}?",
    "Today is {date}. What's the date of the coming {weekday}?",
    "first {weekday} following {date}",
    name="next_weekday",
    give={"date": dates(2010, 2032), "weekday": pick("Monday", "Tuesday", "Thursday", "Friday", "Sunday")},
)
def next_weekday(
    date: str, weekday: Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
) -> str:
    """Find the next given weekday after a date.

    Args:
      date: Date to start from (YYYY-MM-DD).
      weekday: Weekday to find.
    """
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    day = datetime.date.fromisoformat(date)
    return (day + datetime.timedelta((names.index(weekday) - day.weekday() - 1) % 7 + 1)).isoformat()
