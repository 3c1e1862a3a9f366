"""Files that go on with a model as they are: licences, notices and policies, the base's own card, tokenizer files
of other readers. What stays behind is said, and what is no part of a release is told from what is."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from xlam_jax.errors import InputError
from xlam_jax.files import sha256_of
from xlam_jax.weights.checksums import CHECKSUMS, read_checksums
from xlam_jax.weights.peft_config import CONFIG as ADAPTER_CONFIG
from xlam_jax.weights.peft_config import WEIGHTS as ADAPTER_WEIGHTS
from xlam_jax.weights.safetensors_io import INDEX, SINGLE, listed_files
from xlam_jax.weights.tokenizer_files import COPIED, NAMED, named_templates, own_tokenizer_class

README, BASE_README = "README.md", "BASE_README.md"
PROVENANCE = "provenance.json"
TOOL_PARSER = "tool_parser.py"
# Read by mistral-common, older Mistral tools and slow tokenizers, never by this package.
_OTHER_READERS = re.compile(r"tekken\.json|tokenizer\.model\.v\w+|vocab\.txt")
_LEGAL = re.compile(
    r"licen[cs]e|copying|copyright|notice|policy|third[_-]?party|terms[_-]of|attribution|citation",
    re.IGNORECASE,
)
_LEGAL_FOLDER = re.compile(r"licen[cs]es?|copying|legal", re.IGNORECASE)
LICENCE = re.compile(r"((model|weights?)[-_ .]?)?(licen[cs]e|copying)", re.IGNORECASE)
"""How names of licence files, and of folders of them, begin."""
_NO_WORDS = {
    ".py",
    ".json",
    ".png",
    ".svg",
}  # of what lies beside licences: LICENSE-Apache-2.0 has a suffix, too
_WORDS = {"", ".txt", ".md", ".rst", ".pdf", ".html", ".cff"}  # suffixes of what people read
_READ = {  # and written anew
    *(INDEX, "config.json", "generation_config.json", "xlam.json", CHECKSUMS),
    *("chat_template.jinja", "tokenizer_config.json"),
}
_ADAPTER = {ADAPTER_CONFIG, ADAPTER_WEIGHTS}
# Of no use outside, and made again by who needs it: no one misses them.
_NOBODYS = re.compile(r"\.git\w*|\.cache|\.DS_Store|params")


def carry(folders: Sequence[Path], dst: Path) -> list[str]:
    """Copies a model's documents; returns their names in `dst`, sorted.

    Args:
      folders: the model's own, then those of its base models; the first that has a document gives it. A README.md
        that this package did not write for the model itself is the card of a base: it becomes BASE_README.md.
    """
    files: dict[str, Path] = {}
    for number, folder in enumerate(folders):
        for path, name in _documents(folder, number > 0):
            files.setdefault(name, path)
    for name, path in files.items():
        if path.resolve() != (dst / name).resolve():
            (dst / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, dst / name)
            os.chmod(dst / name, 0o644)
    return sorted(files)


def carried(folder: Path) -> list[str]:
    """Names of the documents of others in a written folder."""
    return sorted(name for _, name in _documents(folder, False))


def left_behind(src: Path, dst: Path) -> list[str]:
    """What of the folder `src` neither stands in `dst` nor was read and written anew; folders as one."""
    readme, weights = readme_of(src), _weights(src)

    def known(name: str) -> bool:
        if name in _READ or name in weights or _is_nobodys(name):
            return True
        if name == PROVENANCE or (name == README and (src / PROVENANCE).is_file()):  # a card is made of it
            return (dst / PROVENANCE).is_file()
        if readme and name == readme.name:
            return _same(readme, dst / BASE_README)
        if name in COPIED or name.startswith(f"{NAMED}/"):  # these may have been changed on the way
            return (dst / name).is_file()
        return _same(src / name, dst / name)

    lost = sorted(set(named_templates(src)) - set(named_templates(dst)))
    templates = [f"chat template {name!r} (it would go before this model's own)" for name in lost]
    if own_tokenizer_class(src):
        templates.append(
            "auto_map of tokenizer_config.json (code of its own: what is read is tokenizer.json)"
        )
    renamed = {BASE_README: f"{BASE_README} (its README.md has the name now)"}
    return [renamed.get(name, name) for name in strangers(src, known)] + templates


def left_of_adapter(src: Path, dst: Path) -> list[str]:
    """What of the PEFT folder `src` does not stand in `dst` as it is, but for the adapter, which was merged."""

    def known(name: str) -> bool:
        merged = name in _ADAPTER or name == CHECKSUMS or _is_nobodys(name)
        return merged or _same(src / name, dst / name)

    return strangers(src, known)


def strangers(folder: Path, known: Callable[[str], bool]) -> list[str]:
    """Names of the files in `folder` that are not `known`; of a folder in it one name and how many they are."""
    strange = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            names = (p.relative_to(folder).as_posix() for p in path.rglob("*") if p.is_file())
            count = sum(not known(name) for name in names)
            strange += [f"{path.name}/ ({count} files)"] if count else []
        elif not known(path.name):
            strange.append(path.name)
    return strange


def release_files(folder: Path) -> set[str]:
    """Names of the files that are the release: those that its checksums.json names, else what releases are made of.

    Raises:
      InputError: a checksums.json that cannot be read.
    """
    if (folder / CHECKSUMS).is_file():
        return {*read_checksums(folder), CHECKSUMS}
    known = {*_READ, *_ADAPTER, *COPIED, PROVENANCE, README, BASE_README, TOOL_PARSER, *_weights(folder)}
    names = {p.name for p in folder.iterdir() if p.is_file() and (p.name in known or _is_document(p))}
    names |= {name for _, name in legal_files(folder)}
    return names | {f"{NAMED}/{p.name}" for p in (folder / NAMED).glob("*.jinja") if p.is_file()}


def no_part_of(folder: Path, names: set[str]) -> list[str]:
    """What else lies in the folder of a release of the files `names`, see `strangers`."""
    return strangers(folder, lambda name: name in names or _is_nobodys(name))


def would_be_lost(folder: Path) -> list[str]:
    """What an overwritten release would take with it that is no part of it, of a checkout its history too; and texts
    of it that were changed since."""
    names = release_files(folder)
    made = {".cache", ".DS_Store", ".gitattributes"}
    lost = strangers(folder, lambda name: name in names or name.partition("/")[0] in made)
    sealed = read_checksums(folder) if (folder / CHECKSUMS).is_file() else {}
    texts = [name for name in sealed if not name.endswith(".safetensors") and (folder / name).is_file()]
    return lost + [f"{name} (changed since)" for name in texts if sha256_of(folder / name) != sealed[name]]


def readme_of(folder: Path) -> Path | None:
    """The README.md of a folder, however its case; None where there is none."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((p for p in paths if p.name.lower() == README.lower() and p.is_file()), None)


def _documents(folder: Path, base: bool) -> Iterator[tuple[Path, str]]:
    """Each file that goes on, and its name then."""
    readme = readme_of(folder)
    taken = readme if base or not (folder / PROVENANCE).is_file() else None
    if taken:
        yield taken, BASE_README
    yield from legal_files(folder)
    for path in sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else ():
        if _OTHER_READERS.fullmatch(path.name) or (path.name == BASE_README and not taken):
            yield path, path.name


def legal_files(folder: Path) -> list[tuple[Path, str]]:
    """Licences, notices and policies of a folder, also those in a folder `licenses`: `(path, name in the folder)`."""
    files = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and _is_legal(path):
            files.append((path, path.name))
        elif path.is_dir() and _LEGAL_FOLDER.fullmatch(path.name):
            inner = (p for p in sorted(path.iterdir()) if p.is_file() and p.suffix.lower() not in _NO_WORDS)
            files += [(p, f"{path.name}/{p.name}") for p in inner]
    return files


def _is_nobodys(name: str) -> bool:
    return bool(_NOBODYS.fullmatch(name.partition("/")[0]))


def _is_legal(path: Path) -> bool:
    licence = LICENCE.match(path.name) and path.suffix.lower() not in _NO_WORDS
    return bool(licence or (path.suffix.lower() in _WORDS and _LEGAL.search(path.stem)))


def _is_document(path: Path) -> bool:
    return _is_legal(path) or bool(_OTHER_READERS.fullmatch(path.name))


def _weights(folder: Path) -> set[str]:
    try:
        return set(listed_files(folder).values()) or {SINGLE}
    except InputError:  # none, or none that can be told from others
        return set()


def _same(one: Path, two: Path) -> bool:
    return one.is_file() and two.is_file() and filecmp.cmp(one, two, shallow=False)
