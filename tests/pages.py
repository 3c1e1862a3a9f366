"""The pages that a person reads, and what they tell him to type."""

import re
import shlex
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
TOP = ("README", "BUILD", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")
PAGES = {
    p.name: p.read_text("utf-8")
    for p in (*(REPO / f"{name}.md" for name in TOP), *sorted((REPO / "docs").glob("*.md")))
}
_FENCED = r"^```[a-z]*\n(.*?)^```$"


def fenced(page: str) -> list[str]:
    """Lines of the fenced blocks, continued ones joined."""
    blocks = re.findall(_FENCED, page, re.M | re.S)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def typed(page: str, program: str) -> list[list[str]]:
    """Words of every command of a program, in fenced blocks and between backticks."""
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(_FENCED, "", page, flags=re.M | re.S))
    lines = [*fenced(page), *(span.replace("\n", " ") for span in spans)]
    return [words(line) for line in lines if line.startswith(f"{program} ")]


def commands_of(name: str) -> list[str]:
    """What a page has a person type: of the README every command, of a how-to those in `console` blocks."""
    page = PAGES[name]
    if name != "README.md":
        page = "\n".join(re.findall(r"^```console\n.*?^```$", page, re.M | re.S))
    return [line for line in fenced(page) if re.match(r"([A-Z_]+=\S+ )*xlam ", line)]


def words(line: str) -> list[str]:
    """Of a command line, without its comment."""
    return shlex.split(line, comments=True)
