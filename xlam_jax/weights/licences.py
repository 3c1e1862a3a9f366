"""Under which licence a model may go out: that of its base and of its data, the strictest; a conflict is refused.

No legal advice: a table of the common ones and a rule that names both sides instead of choosing between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xlam_jax.errors import InputError

FREE, PERMISSIVE, ATTRIBUTION = "public domain", "permissive", "attribution"
SHARE_ALIKE, TERMS, NON_COMMERCIAL, UNKNOWN = "share alike", "own terms", "non-commercial", "unknown"
_ORDER = (FREE, PERMISSIVE, ATTRIBUTION)  # what may become the licence that comes after it

# Names of the hub's list, within a kind the more lenient first.
_TABLE: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in (
        (FREE, "cc0-1.0 unlicense pddl cdla-permissive-2.0 0bsd"),
        (PERMISSIVE, "mit isc zlib bsd bsd-2-clause bsd-3-clause afl-3.0 apache-2.0"),
        (ATTRIBUTION, "cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 odc-by"),
        (
            SHARE_ALIKE,
            "cc-by-sa-3.0 cc-by-sa-4.0 odbl mpl-2.0 lgpl lgpl-2.1 lgpl-3.0 gpl gpl-2.0 gpl-3.0 agpl-3.0 "
            "cdla-sharing-1.0 eupl-1.1 eupl-1.2",
        ),
        (
            TERMS,
            "llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma openrail openrail++ bigscience-openrail-m "
            "creativeml-openrail-m bigcode-openrail-m deepseek tongyi-qianwen qwen falcon-llm "
            "nvidia-open-model-license",
        ),
        (
            NON_COMMERCIAL,
            "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 mrl mnpl "
            "qwen-research fair-noncommercial-research-license",
        ),
    )
}
_KINDS = {name: kind for kind, names in _TABLE.items() for name in names}
# Not in the hub's list of licences, which wants `other` with a name.
_OTHER = frozenset(
    [
        "deepseek",
        "tongyi-qianwen",
        "qwen",
        "qwen-research",
        "mrl",
        "mnpl",
        "eupl-1.1",
        "eupl-1.2",
        "nvidia-open-model-license",
        "0bsd",
    ]
)
_ALIASES = {
    "apache": "apache-2.0", "apache2": "apache-2.0", "apache-license-2.0": "apache-2.0", "asl-2.0": "apache-2.0",
    "apache-license-version-2.0": "apache-2.0", "mit-license": "mit", "the-mit-license": "mit", "cc0": "cc0-1.0",
    "cc-by": "cc-by-4.0", "cc-by-nc": "cc-by-nc-4.0", "cc-by-sa": "cc-by-sa-4.0", "gplv2": "gpl-2.0",
    "gplv3": "gpl-3.0", "odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl", "deepseek-license": "deepseek",
    "deepseek-license-agreement": "deepseek", "tongyi-qianwen-license-agreement": "tongyi-qianwen",
    "qwen-license-agreement": "qwen", "llama-2": "llama2", "llama-3": "llama3", "llama-3.1": "llama3.1",
    "mistral-research-license": "mrl",
}  # fmt: skip
# By what licence files say; one text may state several.
_TEXTS = (
    ("apache license version 2.0", "apache-2.0"),
    ("deepseek license agreement", "deepseek"),
    ("falcon llm license", "falcon-llm"),
    ("bigcode openrail-m", "bigcode-openrail-m"),
    ("bigcode open rail-m", "bigcode-openrail-m"),
    ("creativeml openrail-m", "creativeml-openrail-m"),
    ("creativeml open rail-m", "creativeml-openrail-m"),
    ("llama 4 community license", "llama4"),
    ("llama 3.3 community license", "llama3.3"),
    ("llama 3.2 community license", "llama3.2"),
    ("llama 3.1 community license", "llama3.1"),
    ("llama 3 community license", "llama3"),
    ("llama 2 community license", "llama2"),
    ("gemma terms of use", "gemma"),
    ("tongyi qianwen license agreement", "tongyi-qianwen"),
    ("qwen research license agreement", "qwen-research"),
    ("qwen license agreement", "qwen"),
    ("mistral ai research license", "mrl"),
    ("mistral ai non-production license", "mnpl"),
    ("mozilla public license version 2.0", "mpl-2.0"),
    ("gnu affero general public license version 3", "agpl-3.0"),
    ("gnu lesser general public license version 3", "lgpl-3.0"),
    ("gnu general public license version 3", "gpl-3.0"),
    ("gnu general public license version 2", "gpl-2.0"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "mit"),
)
# What a licence's own text names of others: those its works may be combined with.
_COMPATIBLE = {"mpl-2.0": {"gpl-2.0", "lgpl-2.1", "agpl-3.0"}}
_LONG_CC = re.compile(r"attribution((?:-(?:noncommercial|sharealike|noderiv(?:ative)?s))*) (\d\.\d) [a-z]")
_SHORT_CC = re.compile(r"(?:\bcc[ -]|creativecommons\.org/licenses/)by((?:[ -](?:nc|sa|nd))*)[ /-]v?(\d\.\d)")
_CC0 = re.compile(r"\bcc0[ -]1\.0|creativecommons\.org/publicdomain/zero/1\.0")
_SPDX = re.compile(r"spdx-license-identifier: ([a-z0-9.+-]+)")
_CC_PARTS = {"noncommercial": "nc", "sharealike": "sa", "noderivatives": "nd", "noderivs": "nd"}
_COMMERCE = r"commercial(ly\b| use| purposes?| exploitation| applications?)"
_NO_COMMERCE = re.compile(
    r"non-? ?commercial|(academic|research|educational|evaluation) (purposes?|use) only"
    r"|(only|solely|exclusively) (be used )?for (\w+ ){0,2}(academic|research|educational|evaluation)"
    rf"|\bno {_COMMERCE}|\bnot (\w+ ){{0,2}}for (any )?{_COMMERCE}"
    rf"|\b((may|can|must|shall|should|will|do|does|is|are) ?not|\w+n['\u2019]t) [^.;:]{{0,60}}{_COMMERCE}"
    rf"|{_COMMERCE}( of [^.;:]{{0,40}})? (is|are) (\w+ ){{0,2}}(prohibited|forbidden|disallowed|excluded|not )"
    rf"|(prohibit|forbid|exclud|disallow)\w* [^.;:]{{0,40}}{_COMMERCE}"
)
# Both kinds of use allowed; and how the GPL lets source code be offered.
_NO_LIMIT = re.compile(
    r"non-? ?commercial(ly)?( use| purposes?)?(,| and/or| and| or)+ commercial"
    r"|(?<!-)\bcommercial(ly)?( use| purposes?)?(,| and/or| and| or)+ non-? ?commercial"
    r"|occasionally and noncommercially|only for noncommercial distribution"
    rf"|not (limited|restricted) (only )?to [^.;:]{{0,40}}{_COMMERCE}"
    rf"|not (limit|restrict|prevent|prohibit|forbid|exclude|affect|preclude)\w* [^.;:]{{0,40}}{_COMMERCE}"
)


@dataclass(frozen=True)
class Licence:
    """A licence as a model card names it.

    Attributes:
      name: the hub's name, else what its owner calls it; "unknown" where nobody says.
      link: of its text, or the name of a file beside the card.
    """

    name: str
    link: str = ""

    @property
    def kind(self) -> str:
        """Which of the kinds above; a name that is not in the table is unknown too, unless it says what it forbids."""
        forbids = self.name.startswith(("cc-by-nc-", NON_COMMERCIAL))
        return _KINDS.get(self.name, NON_COMMERCIAL if forbids else UNKNOWN)

    def card(self) -> dict[str, str]:
        """The keys of the hub's card."""
        if self.name == "unknown":
            return {"license": "unknown"}
        if self.name not in _KINDS or self.name in _OTHER:
            link = {"license_link": self.link} if self.link else {}
            return {"license": "other", "license_name": _slug(self.name), **link}
        return {"license": self.name}


def licence(text: str, link: str = "") -> Licence:
    """Of a name in the hub's, SPDX's or a person's spelling."""
    name = re.sub(r"-(only|or-later)$", "", _slug(text))
    name = re.sub(r"^(llama)-?([\d.]+)-community-licen[cs]e(-agreement)?$", r"\1\2", name)
    name = _ALIASES.get(name, name)
    return Licence(name if name in _KINDS else text.strip() or "unknown", link)


def licences_of_text(text: str) -> list[str]:
    """Names of all licences that a licence file states, in no order of worth; [] where the table has none of them.

    A file may hold one for the code and another one for the weights, by title, by short name or by address.
    """
    text = re.sub(r"[\s,]+(?=version)|\s+", " ", text.lower())
    names = [name for phrase, name in _TEXTS if phrase in text]
    for parts, version in _LONG_CC.findall(text):
        names.append("-".join(("cc-by", *(_CC_PARTS[part] for part in parts.split("-")[1:]), version)))
    names += [f"cc-by{parts.replace(' ', '-')}-{version}" for parts, version in _SHORT_CC.findall(text)]
    names += ["cc0-1.0"] if _CC0.search(text) else []
    names += [licence(name).name for name in _SPDX.findall(text)]
    combined = {other for name in names for other in _COMPATIBLE.get(name, ())}
    return [name for name in dict.fromkeys(names) if name not in combined]


def forbids_commerce(text: str) -> bool:
    """Whether a text allows non-commercial use or research alone, whichever licences it names."""
    text = re.sub(r"\s+", " ", text.lower())
    return bool(_NO_COMMERCE.search(_NO_LIMIT.sub("", text)))


@dataclass(frozen=True)
class Part:
    """What a model is made of: the base model, a source of data; and its licence."""

    what: str
    licence: Licence

    def __str__(self) -> str:
        kind = "" if self.licence.name == UNKNOWN else f" ({self.licence.kind})"
        return f"{self.what}: {self.licence.name}{kind}"


def effective(parts: Sequence[Part], where: str = "") -> Licence:
    """The strictest licence of the parts.

    Licences of the public domain, permissive ones and those that ask for attribution give way to any stricter one. What
    binds a work to itself (share alike, own terms, non-commercial) does not give way; non-commercial beside anything
    else, two that bind, and known beside unknown are conflicts that a person has to decide.

    Raises:
      InputError: a conflict; both sides are named.
    """
    by_name = {part.licence.name: part for part in parts}
    if len(by_name) < 2:
        return parts[0].licence if parts else Licence(UNKNOWN)
    kinds = {name: part.licence.kind for name, part in by_name.items()}
    loose = sorted(
        (n for n in by_name if kinds[n] in _ORDER), key=lambda n: (_ORDER.index(kinds[n]), _rank(n))
    )
    firm = [name for name in by_name if kinds[name] not in _ORDER]
    if not firm:
        return by_name[loose[-1]].licence
    if len(firm) == 1 and kinds[firm[0]] in (SHARE_ALIKE, TERMS):
        return by_name[firm[0]].licence
    one = next((n for n in firm if kinds[n] in (UNKNOWN, NON_COMMERCIAL)), firm[0])
    other = next(name for name in by_name if name != one)  # the base, where it is not the base that binds
    named = (
        (one if kinds[one] == NON_COMMERCIAL else other) if one in _KINDS or kinds[one] == UNKNOWN else "NAME"
    )
    why = "nobody says what" if kinds[one] == UNKNOWN else "commercial use is not what"
    raise InputError(
        f"the licences do not agree: {by_name[other]}; {by_name[one]}",
        where=where,
        hint=f"{why} the second allows: decide, and name the licence of the release, such as --license "
        f"{named}; or leave that part out",
    )


def _rank(name: str) -> int:
    return _TABLE[_KINDS[name]].index(name)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-")
