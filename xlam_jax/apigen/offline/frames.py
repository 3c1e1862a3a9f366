"""From the description of an API to what a person would say who wants it.

The first sentence of a description becomes a request in the imperative ("Retrieves the forecast for a given city" ->
"get the forecast for a given city"); mentions of a parameter inside it become slots ("... for {city}"). A description
that makes no such sentence leaves its API out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlam_jax.apigen.offline.tables import words
from xlam_jax.apigen.signature import words_of

_BASES, _RETRIEVE = words("verbs"), frozenset(words("retrieve"))
_VERBS = {verb: verb for verb in _BASES}
for _verb in _BASES:
    if re.search(r"[^aeiou]y$", _verb):
        _VERBS[_verb[:-1] + "ies"] = _verb
    elif re.search(r"(s|x|z|ch|sh|o)$", _verb):
        _VERBS[_verb + "es"] = _verb
    else:
        _VERBS[_verb + "s"] = _verb
_SHOWN = ("get", "show me", "give me", "find", "look up", "pull up", "fetch")
_DONE = {"calculate": ("calculate", "work out", "compute"), "compute": ("compute", "calculate", "work out"),
         "search": ("search",), "create": ("create", "make"), "list": ("list", "show me", "give me"),
         "delete": ("delete", "remove"), "find": ("find", "look up"), "check": ("check",),
         "determine": ("determine", "find out", "work out"), "generate": ("generate", "create"),
         "estimate": ("estimate", "work out"), "update": ("update", "change"), "convert": ("convert",)}  # fmt: skip
# Where what a person would say ends: at a dash, a second clause, what the values say anyway.
_CUT = re.compile(
    r"\s+(?:-|–|—)\s+|[;:](?:\s|$)|\s+based on\b|"
    r"\s+by (?:providing|specifying|passing|using|setting|entering)\b|\s+given (?:its|the|an?|their|some|two|that)\b|"
    r",\s*(?:which|including|such as|with optional|returning|and returns?|or None|optionally|using|supporting|allowing|"
    r"similar to|where|given|if|so|but|for example|e\.g\.)\b",
    re.IGNORECASE,
)
_VAGUE_NOUNS = (
    r"(?:parameters?|criteria|options?|arguments?|inputs?|values?|filters?|properties|settings|conditions?|details|"
    r"configuration|attributes)"
)
_GIVEN = (
    r"(?:given|specified|provided|supplied|certain|specific|various|optional|input|following|required|above|desired|"
    r"user-provided|user-specified)"
)
_PREPOSITIONS = (
    r"(?:based on|by|from|given|using|via|through|with|for|matching|according to|specified by|as|in|at)"
)
_IDENTITY = (
    r"(?:ids?|identifiers?|name|url|uri|uuid|address|symbol|path|key|number|hash|title|keywords?|query|filename|"
    r"email)"
)
# Ends of sentences that speak of the call and not of the matter: "with the given parameters", "using the X API".
_TAIL = re.compile(
    "|".join((
        rf"\s+(?:{_PREPOSITIONS}\s+)?(?:the |a |an |its |your |their |this |these )?{_GIVEN}\s+"
        rf"(?:[\w-]+\s+){{0,3}}?{_VAGUE_NOUNS}\b.*$",
        r"\s+(?:with|using|by|via|from) (?:optional |various |advanced |multiple )?"
        r"(?:filters|filtering|parameters|pagination|options|the [\w ]* api|sort\w*)\b.*$",
        r"\s+(?:using|via|from|through|with|on) (?:the )?[A-Z][\w.]*(?:\s[A-Z][\w.]*)* "
        r"(?:API|SDK|CLI|database|endpoint|service|MCP)s?\b.*$",
        rf"\s+(?:for|within|in|over|between|during|across) (?:the |a |an )?(?:{_GIVEN} )?"
        r"(?:date|time)s?[ -]?(?:range|period|frame|s)\b.*$",
        r",?\s+(?:sorted|ordered|then|with optional)\b.*$",
        r",?\s+(?:or to|or|unless|if) [^,]*\b(?:specified|provided|given|omitted|exists?|empty|available)\b.*$",
        rf"\s+(?:identified |filtered )?by (?:(?:its|their|the|an?) )?(?:[\w'-]+ ){{0,3}}(?i:{_IDENTITY})$",
        r"\s+(?:in|under|at|of) (?:the |a )?given$|\s+at (?:the |a |an )?given [\w ]+$",
        r"\s+(?:if (?:available|it exists|any|possible|needed|present|provided|specified)|"
        r"as (?:JSON|a JSON|a string|text|markdown|a dict|a list)\b).*$",
        rf"\s+(?:by|with|using|given|from|for) (?:its |their |the |an? )?(?:unique )?"
        rf"{_IDENTITY}(?: (?:or|and) [\w ]+)?$",
    ))
)  # fmt: skip
# Marks of a text that is no sentence of a user.
_BAD = re.compile(
    r"[{}<>|=\\~^`@#*\[\]$]|https?:|"
    r"\b(?:MCP|LLM|tool|function|endpoint|deprecated|internal|TODO|kwargs|args|API|this method|callback|params?|"
    r"parameters?|arguments?|boolean|json|object|instance|iterable|iterator|sequence|True|False|None|you|your|agent|"
    r"user's|the user|client|server|wrapper|class|plugin|super|override|caching|prompt|response|request|"
    r"schema|docs?|should|must)\b",
)
# Ends of a sentence that names its source: "..., as shown in [1]".
_CITES = re.compile(
    r",?\s*(?:\b(?:as|also)\s+)?\b(?:and|shown|given|presented|described|developed|used|published|recommended|provided|"
    r"summarized|found|stated|proposed|according to|accordin to|using|with|from|in|by|based on|per|following|of|via)"
    r"(?:\s+(?:the|an?))?"
    r"(?:\s+(?:model|method|correlation|formula|formulas|equation|expression|work|form|rules?|procedure))?\s*$",
    re.IGNORECASE,
)
_RETURN_IF = re.compile(
    r"^(?:returns?|tests?|checks?|determines?)\s+(?:``?true``?\s+)?(?:if|whether)\s+(?:or not\s+)?",
    re.IGNORECASE,
)
_MORE = re.compile(r"\band (?:return|extract|save|store|convert|format|display|parse|get|provide|show)s?\b")
_NOUN = re.compile(r"^(?:the|a|an)\s+(?=[a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """A request as said: `verbs` any of which opens it, the rest of it with `{parameter}` slots.

    Attributes:
      verbs: words that may open the imperative.
      rest: what follows, with slots.
      slots: parameters that stand inside.
    """

    verbs: tuple[str, ...]
    rest: str
    slots: tuple[str, ...]


def frame_of(description: str, parameters: Mapping[str, Any], spoken: Sequence[str]) -> Frame | None:
    """The frame of a description; None where no plain sentence comes out of it.

    Args:
      parameters: properties of the schema.
      spoken: names of the parameters that have values.
    """
    sentence = first_sentence(description)
    if not sentence:
        return None
    if match := _RETURN_IF.match(sentence):
        verbs: tuple[str, ...] = ("check whether", "tell me whether", "find out whether")
        rest = re.sub(
            r"[,;]?\s+(?:(?:and|or|else|otherwise)\s+)?(?:returns?\s+)?false\b.*$|,?\s+or not$",
            "",
            sentence[match.end() :],
            flags=re.I,
        )
    else:
        first, _, rest = sentence.partition(" ")
        if again := re.match(r"or (\w+) ", rest):  # "Create or update": the first of the two
            rest = rest[again.end() :] if again[1].lower() in _VERBS else rest
        base = _VERBS.get(first.lower())
        if base is None:
            if not _NOUN.match(sentence):
                return None
            base, rest = "get", sentence[0].lower() + sentence[1:]
        if base == "list" and rest.startswith("of "):  # "List of users"
            base, rest = "get", f"the list {rest}"
        if base in _RETRIEVE and re.match(r"(?:you|access|a way|tools?|support)\b", rest):
            return None
        simple = not re.match(r"(?:all )?(?:from|to|into|with|by|and)\b", rest) and not _MORE.search(rest)
        verbs = _SHOWN if base in _RETRIEVE and simple else _DONE.get(base, (base,))
    rest = re.sub(r"\s*\([^)]*\)", "", rest)
    rest = re.sub(r"^and (?:returns?|gets?|shows?|prints?) ", "", rest)
    if re.search(r"\b(?:options|printing)$", rest) and verbs[0] == "set":
        return None
    rest = _CUT.split(rest)[0]
    rest, slots = _slots(rest, parameters, spoken)
    rest = _TAIL.sub("", rest).strip(" .,;:")
    slots = tuple(s for s in slots if "{" + s + "}" in rest)
    plain = re.sub(r"\{\w+\}", "", rest)
    rest = re.sub(r"(\{\w+\}) \1", r"\1", rest)
    titled = [w for w in rest.split() if re.fullmatch(r"[A-Z][a-z]+(?:'s)?", w)]
    if len(titled) > 1 and len(titled) > len(plain.split()) / 2:  # Written Like a Heading
        rest = " ".join(w.lower() if w in titled else w for w in rest.split())
    if (
        "(" in rest
        or "&" in plain
        or re.search(
            r"\b(?:given|provided|specified)$|\b(?:given|provided|specified)[.,]|,\s+[\w' -]+,?\s+or\s", rest
        )
        or re.search(r"\} or | or (?:an? |the )?\{", rest)  # one of two things is said, and the other stays
        or re.fullmatch(
            r"(?:the |an? )?(?:numbers?|items?|data|values?|lists?|results?|objects?|records?)", rest
        )
        or re.search(r"\},\s+[\w -]+(?:,|\s+and\b)(?!\s*\{)", rest)  # some of a list of quantities only
        or "/" in plain
        or len(rest.split()) < 2
        or len(rest.split()) > 20
        or len(plain) < 4
        or _BAD.search(plain)
        or not rest.isascii()
    ):
        return None
    if re.search(r"\b(?:given|specified|specific|provided|certain|particular|following)\b", plain):
        rest = re.sub(r"\s+given (?:its|the|an?|their|some|two)\b.*$", "", rest)
        rest = re.sub(
            r"(?<![\w-])(?:the |a |an )?(?:given|specified|specific|provided|certain|particular) ",
            "the ",
            rest,
        )
    if re.search(
        r"\b(?:of|for|by|with|from|to|in|on|the|a|an|and|or|using|at|its|about|into|between|than|as|per|whether|is|are|this|filtering|filtered|optionally|paginated|identified|selected|specified|along|over|under|without|against|within|during|near|after|before|all|any|each)$",
        rest,
    ):
        return None
    return Frame(verbs, rest, slots)


def first_sentence(text: str) -> str:
    """The first sentence without markup, references and formulas."""
    text = html.unescape(text)
    text = re.split(r"\s\.\. \w+|\n\s*\n|>>>", text)[0]
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "")
    text = re.sub(r"(?<![\w*])\*{1,2}(\w[^*]*)\*{1,2}(?![\w*])", r"\1", text)
    if cited := re.search(r"\s*\[\d+\]_?", text):
        text = text[: cited.start()]
        while (shorter := _CITES.sub("", text)) != text:
            text = shorter
    text = re.sub(r"(?<=\w)- (?=[a-z])", "-", text)
    text = re.sub(r"^\s*(?:\[[^\]]*\]|\W)+\s*", "", text.strip())
    text = re.sub(r"\be\.\s?g\.|\bi\.\s?e\.|\bvs\.|\betc\.", lambda m: m[0].replace(".", ""), text)
    text = re.split(r"(?<=[.!?])\s+(?=[A-Z\[('\x22])|\n|\.\s*$", text, maxsplit=1)[0].strip(" .")
    text = re.sub(
        r"^This (?:function|method|tool) (?:handles|performs) the (?:calculation|retrieval|computation) of ",
        "Calculate ",
        text,
    )
    return re.sub(r"^This (?:function|method|tool) (?=[a-z]+s\b)", "", text)


def _slots(rest: str, parameters: Mapping[str, Any], spoken: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Puts slots in the place of mentions: "a given city", "the user ID", and bare names such as `n`."""
    slots: list[str] = []
    for name in sorted(spoken, key=len, reverse=True):
        label = words_of(name)
        if not label or not re.fullmatch(r"\w+", name):
            continue
        names = {label, name}
        schema = parameters.get(name)
        names.add(label_of(name, schema if isinstance(schema, dict) else {}) or label)
        if len(label.split()) == 1 and len(label) > 2:
            names.add(label.removesuffix("s"))
        last = label.split()[-1]
        numeric = isinstance(schema, dict) and schema.get("type") in ("number", "integer")
        wider = {*names, last} if len(last) > 2 and not numeric else names
        ends = "|".join(re.escape(n) for n in sorted(wider, key=len, reverse=True))
        alternatives = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
        said = re.search(
            rf"\b(?:(?:a|an|the|any|each|one|some)\s+)?(?:(?:given|specified|specific|particular|provided|single|certain|supplied|input)\s+)"
            rf"(?:{alternatives})\b(?!\s+(?:of|or|[a-z]+s\b))|\b(?:a|an)\s+(?:{alternatives})\b(?=$|[,.]|\s+(?:in|and|at|on|is|to)\b)"
            rf"|\b(?:the|an?|this) (?:given |specified |specific )?(?:{ends})$|(?<=\band )(?:{alternatives})$",
            rest,
            re.IGNORECASE,
        )
        bare = rf"(?<![\w'{{-])(?:integers? |numbers? |string )?{re.escape(name)}(?![\w'}}-])"
        if said is None and re.fullmatch(r"[b-zA-HJ-Z]|[a-z]\d|[a-z]+_[a-z_]+", name):
            said = re.search(bare, rest)
        if said is None:
            continue
        before = rest[: said.start()].rstrip()
        if not before and not rest[said.end() :].strip():
            continue
        rest = rest[: said.start()] + "{" + name + "}" + rest[said.end() :]
        if len(name) == 1 and name not in "aAI":
            rest = re.sub(bare, "{" + name + "}", rest)
        slots.append(name)
    return rest, tuple(slots)


def label_of(name: str, schema: Mapping[str, Any], symbols: bool = False) -> str:
    """What a parameter is called in a sentence: its name in words, or its description where the name is a letter.

    Args:
      symbols: names are those of formulas, so that a description says more.
    """
    label = words_of(name)
    label = re.sub(r"^(?:num|n) (?=\w)", "number of ", label)
    label = f"number of {label}" if label in _UNITS else label
    label = re.sub(r"\bmax\b", "maximum", re.sub(r"\bmin\b", "minimum", label))
    if label == "id":
        return "ID"
    label = re.sub(r"\bid(s?)\b", r"ID\1", re.sub(r"\burl(s?)\b", r"URL\1", label))
    label = re.sub(
        r"\brepo\b", "repository", re.sub(r"\bdir\b", "directory", re.sub(r"\blang\b", "language", label))
    )
    text = schema.get("description")
    if not isinstance(text, str) or (
        not symbols and len(label) > 3 and label.isascii() and not _ABBREVIATED.search(label)
    ):
        return label
    short = _LABEL_END.split(text.strip())[0].strip()
    short = re.sub(r"^(?:the|an?)\s+", "", short, flags=re.IGNORECASE)
    unclear = _UNCLEAR.match(short) or short.lower() in _TYPE_WORDS or re.search(r"\b(?:DD|MM|YY+)\b", short)
    if (
        not unclear
        and 1 <= len(short.split()) <= 7
        and short.isascii()
        and not re.search(r"[{}<>|=\\~^`@#*\[\]$]", short)
        and len(short) > 2
    ):
        return short if _KEEPS_CASE.match(short) else short[0].lower() + short[1:]
    return (
        label
        if (len(label) > 3 and not symbols) or not re.fullmatch(r"[A-Za-z]\w*", name)
        else name.replace("_", " ")
    )


_UNCLEAR = re.compile(
    r"(?:either|whether|if|when|it'?s|this|these|your|unique|comma|string|json|optional|required|one of|must|set|only|"
    r"a list|list of|true|false)\b",
    re.IGNORECASE,
)
_TYPE_WORDS = frozenset(words("types"))
_UNITS = ("days", "hours", "minutes", "seconds", "weeks", "months", "years")
_LABEL_END = re.compile(
    r"[,;:.(\[]|\s(?:for|to|that|which|used|in which|at which|such as|if|by|you|e\.g|with respect|"
    r"must|should|can|will|is|are|calculated|between|before|after|using|when|where|as|on|over)\b"
)
_KEEPS_CASE = re.compile(
    r"[A-Z]{2}|(?:Reynolds|Prandtl|Grashof|Rayleigh|Nusselt|Darcy|Mach|Weber|Froude|Kelvin|Celsius|Rankine|Fahrenheit|Poisson|"
    r"Stanton|Biot|Fourier|Euler|Gibbs|Henry|Antoine|Knudsen|Schmidt|Sherwood|Young|Stefan|Boltzmann|Avogadro|Jakob|Brinell)\b"
)
_ABBREVIATED = re.compile(r"\b[a-z]{1,2}\b(?<!\bid)(?<!\bto)(?<!\bis)(?<!\bof)(?<!\bin)(?<!\bby)(?<!\bon)")


def unit_said(schema: Mapping[str, Any]) -> str:
    """A unit in brackets at the end of a description (`Diameter of the pipe, [m]`), where it can be said."""
    text = schema.get("description")
    match = re.search(r"\[([^\]]{1,14})\]", text) if isinstance(text, str) else None
    unit = match[1] if match else ""
    words = re.findall(r"[A-Za-z]{4,}", unit)
    said = re.fullmatch(r"[A-Za-z%°/^*0-9. -]+", unit) and unit not in ("-", "mol/mol") and not unit.isdigit()
    return unit if said and all(w in ("degrees", "inch", "inches", "bits") for w in words) else ""
