"""XLA flag profiles as data, checked against the JAX version: a flag that XLA does not know ends the process.

`xla_flags.json` says which flag was accepted by which measured version. Only jaxlib's version is read here,
so the string is ready before a backend starts.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from xlam_jax.errors import unknown

_DATA = Path(__file__).with_name("xla_flags.json")


@dataclasses.dataclass(frozen=True)
class Profile:
    """Flags with their values, and environment variables that belong to them."""

    name: str
    about: str
    flags: dict[str, str]
    env: dict[str, str]


@functools.lru_cache(maxsize=1)
def _table() -> dict:
    return json.loads(_DATA.read_text(encoding="utf-8"))


def profiles() -> dict[str, Profile]:
    """Name -> profile."""
    return {name: Profile(name, **values) for name, values in _table()["profiles"].items()}


def profile(name: str) -> Profile:
    """The profile called `name`.

    Raises:
      InputError: no such profile; the hint is the nearest one.
    """
    known = profiles()
    if name not in known:
        raise unknown("flag profile", name, known)
    return known[name]


def refusal(flag: str, jax_version: str | None = None) -> str | None:
    """Why `flag` cannot be set on this version of jaxlib; None when it was accepted.

    Versions between the measured ones go with the nearest measured one before them, except that a flag which
    came or went in between is refused.
    """
    entry = _table()["flags"].get(flag)
    asked = _key(jax_version or version("jaxlib"))
    if entry is None:
        return "never measured"
    if entry.get("never"):
        return "unknown to every measured version"
    if asked < _key(_table()["measured"][0]):
        return f"{jax_version} is older than the first measured version"
    if "since" in entry and asked < _key(entry["since"]):
        return f"known from {entry['since']} on"
    if "until" in entry and asked > _key(entry["until"]):
        return f"known until {entry['until']}"
    return None


def profile_flags(name: str, jax_version: str | None = None) -> str:
    """The value of XLA_FLAGS for a profile; flags that this version does not know are dropped with a warning.

    Args:
      jax_version: defaults to the installed jaxlib's.

    Raises:
      InputError: no such profile.

    Example:
      >>> profile_flags("reproducible", "0.10.2").split()[0]
      '--xla_gpu_deterministic_ops=true'
    """
    kept = []
    for flag, value in profile(name).flags.items():
        if why := refusal(flag, jax_version):
            warnings.warn(
                f"profile {name}: dropped --{flag}={value} on jaxlib {jax_version or version('jaxlib')}: {why}",
                stacklevel=2,
            )
        else:
            kept.append(f"--{flag}={value}")
    return " ".join(kept)


def step_options(platform: str) -> dict[str, bool]:
    """Options that every train step on a platform is compiled with, whatever the profile: they mend faults of XLA and
    cost nothing. What the installed version does not know is left out; `flag_table` says what each is for."""
    return {
        flag: value for flag, value in _table()["step"].get(platform, {}).items() if refusal(flag) is None
    }


def accepts(flags: str) -> bool:
    """Whether a process with these XLA_FLAGS starts a CPU backend: the proof behind the table."""
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"], env=env, capture_output=True, check=False
    )
    return run.returncode == 0


def flag_table(jax_version: str | None = None) -> list[dict[str, str]]:
    """A row for each flag of the table: whether it is accepted, in which profiles it stands."""
    rows = []
    for flag, entry in _table()["flags"].items():
        used = [p.name for p in profiles().values() if flag in p.flags]
        why = refusal(flag, jax_version)
        rows.append(
            {
                "flag": flag,
                "here": "yes" if why is None else why,
                "profiles": ", ".join(used),
                "note": entry.get("note", ""),
            }
        )
    return rows


def _key(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.split("+")[0].split(".dev")[0])[:4])
