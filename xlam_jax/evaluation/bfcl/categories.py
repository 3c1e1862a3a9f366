"""BFCL's categories: which there are in each version, what decides them, and which are not run and why.

Names are those of version 2; version 4 calls `simple_python`, `simple_java` and `simple_javascript` what were
`simple`, `java` and `javascript`, and both spellings are understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xlam_jax.errors import InputError, unknown

Group = Literal["non_live", "live", "multi_turn"]
VERSIONS = ("v2", "v3", "v4")


@dataclass(frozen=True)
class Category:
    """One file of the leaderboard.

    Attributes:
      name: also the style of its rows.
      group: its folder among result files.
      kind: which of the checker's matchers decides (`scoring.bfcl.CATEGORIES`), or `multi_turn`.
      language: of the functions.
      versions: in which it is scored.
    """

    name: str
    group: Group
    kind: str
    language: str = "python"
    versions: tuple[str, ...] = VERSIONS

    @property
    def has_answers(self) -> bool:
        """Whether a file of possible answers stands beside the questions."""
        return self.kind not in ("irrelevance", "relevance")

    @property
    def v4_name(self) -> str:
        """The name in version 4 and in result files."""
        return {"simple": "simple_python"}.get(
            self.name, self.name if self.language == "python" else f"simple_{self.name}"
        )


_AST = ("simple", "multiple", "parallel", "parallel_multiple")
_ALL = (
    Category("simple", "non_live", "simple"),
    Category("java", "non_live", "simple", "java"),
    Category("javascript", "non_live", "simple", "javascript"),
    *(Category(name, "non_live", name) for name in _AST[1:]),
    Category("irrelevance", "non_live", "irrelevance"),
    *(Category(f"live_{name}", "live", name) for name in (*_AST, "irrelevance", "relevance")),
    *(
        Category(f"multi_turn_{name}", "multi_turn", "multi_turn", versions=("v3", "v4"))
        for name in ("base", "miss_func", "miss_param", "long_context")
    ),
)
CATEGORIES: dict[str, Category] = {category.name: category for category in _ALL}
_SPELLINGS = {category.v4_name: name for name, category in CATEGORIES.items()}

# What a version scores and this harness does not run, with the reason.
_EXEC = "web services that are gone"
_WEB = "a search service on the network"
NOT_RUN: dict[str, dict[str, str]] = {
    "v2": dict.fromkeys(("exec_simple", "exec_multiple", "exec_parallel", "exec_parallel_multiple", "rest"), _EXEC),
    "v3": {},
    "v4": {
        **dict.fromkeys(("web_search_base", "web_search_no_snippet"), _WEB),
        "memory_vector": "an embedding model from the network",
        **dict.fromkeys(("memory_kv", "memory_rec_sum"), "no harness here yet"),
    },
}  # fmt: skip
_SETS = ("all", "single_turn", "non_live", "live", "multi_turn", "python", "non_python")


def category(name: str) -> Category:
    """The category of a name in any version's spelling.

    Raises:
      InputError: unknown, with the nearest known name.
    """
    known = CATEGORIES.get(_SPELLINGS.get(name, name))
    if known is None:
        raise unknown("BFCL category", name, [*CATEGORIES, *_SETS])
    return known


def chosen(names: Sequence[str], version: str) -> list[Category]:
    """The categories that names, lists with commas and names of sets mean in a version, in the leaderboard's order.

    Raises:
      InputError: an unknown name, a category that is not run, or one that the version has not.
    """
    words = [word.strip() for name in names for word in name.split(",") if word.strip()]
    out: set[str] = set()
    for word in words:
        if word in _SETS:
            out |= {c.name for c in _ALL if version in c.versions and _in_set(c, word)}
            continue
        if word in NOT_RUN[version]:
            raise InputError(
                f"the category {word!r} is not run: {NOT_RUN[version][word]}", where="--category"
            )
        named = category(word)
        if version not in named.versions:
            hint = f"--version {' or '.join(named.versions)}"
            raise InputError(f"BFCL {version} has no {word!r}", where="--category", hint=hint)
        out.add(named.name)
    return [c for c in _ALL if c.name in out]


def _in_set(category: Category, name: str) -> bool:
    if name == "all":
        return True
    if name == "single_turn":
        return category.group != "multi_turn"
    if name in ("python", "non_python"):
        return category.group != "multi_turn" and (category.language == "python") == (name == "python")
    return category.group == name
