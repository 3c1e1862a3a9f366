"""Files that go on with a model as they are: licences, notices and policies, the base's own card, tokenizer files
of other readers. What stays behind is said."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from xlam_jax.weights.tokenizer_files import named_templates

README, BASE_README = "README.md", "BASE_README.md"
PROVENANCE = "provenance.json"
# Read by mistral-common, older Mistral tools and slow tokenizers, never by this package.
_OTHER_READERS = re.compile(r"tekken\.json|tokenizer\.model\.v\w+|vocab\.txt")
_LEGAL = re.compile(
    r"licen[cs]e|copying|copyright|notice|policy|third[_-]?party|terms[_-]of|attribution|citation",
    re.IGNORECASE,
)
_WORDS = {"", ".txt", ".md", ".rst", ".pdf", ".html", ".cff"}  # suffixes of what people read
# Read and written anew, or of no use outside: no one misses them.
_REPLACED = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|config\.json|generation_config\.json|"
    r"xlam\.json|checksums\.json|provenance\.json|tool_parser\.py|README\.md|chat_template\.jinja|"
    r"tokenizer_config\.json|\.git.*|\.cache|params|\.DS_Store"
)


def carry(folders: Sequence[Path], dst: Path) -> list[str]:
    """Copies a model's documents; returns their names in `dst`, sorted.

    Args:
      folders: the model's own, then those of its base models; the first that has a document gives it. A README.md
        that this package did not write for the model itself is the card of a base: it becomes BASE_README.md.
    """
    found: dict[str, Path] = {}
    for number, folder in enumerate(folders):
        for path, name in _documents(folder, number > 0):
            found.setdefault(name, path)
    for name, path in found.items():
        if path.resolve() != (dst / name).resolve():
            shutil.copyfile(path, dst / name)
            os.chmod(dst / name, 0o644)
    return sorted(found)


def carried(folder: Path) -> list[str]:
    """Names of the documents of others in a written folder."""
    return [name for _, name in _documents(folder, False)]


def left_behind(src: Path, dst: Path) -> list[str]:
    """What of the folder `src` neither stands in `dst` nor was read and written anew; folders as one."""
    kept = {name for _, name in _documents(src, False)}
    left = []
    for path in sorted(src.iterdir()):
        if _REPLACED.fullmatch(path.name) or path.name in kept:
            continue
        if path.is_dir():
            count = sum(p.is_file() and not (dst / p.relative_to(src)).is_file() for p in path.rglob("*"))
            left += [f"{path.name}/ ({count} files)"] if count else []
        elif not (dst / path.name).is_file():
            left.append(path.name)
    lost = sorted(set(named_templates(src)) - set(named_templates(dst)))
    return left + [f"chat template {name!r} (it would go before this model's own)" for name in lost]


def _documents(folder: Path, base: bool) -> Iterator[tuple[Path, str]]:
    """Each file that goes on, and its name then."""
    paths = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    readme = next((p for p in paths if p.name.lower() == "readme.md"), None)
    if readme and (base or not (folder / PROVENANCE).is_file()):
        yield readme, BASE_README
    for path in paths:
        if path.name == BASE_README or _OTHER_READERS.fullmatch(path.name) or _is_legal(path):
            yield path, path.name


def _is_legal(path: Path) -> bool:
    return path.suffix.lower() in _WORDS and bool(_LEGAL.search(path.stem))
