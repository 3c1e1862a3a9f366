"""Files and folders that appear whole or not at all, their digests, and the error of a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, NoRoomError, WorkError, is_no_room
from xlam_jax.lease import Lease, lease_of

# What each destination held when its command looked at it: the number of its inode, or None.
_LOOKED_AT: dict[Path, int | None] = {}
JOURNAL = "journal.jsonl"  # in a folder that is not finished; see `weights.checksums.Journal`
MARKER = ".xlam-partial"
"""File in a folder that `whole_folder` made or moved beside a destination: it may remove that one, and no other."""
_DEPTH = 100  # of JSON; Python's own reader and writer end at some hundred more, by an error of their own


def check_free(dst: Path, *, overwrite: bool) -> None:
    """Raises InputError when `dst` exists and holds something, unless `overwrite`.

    `whole_folder` later replaces what was seen here, and nothing that appeared since.
    """
    _check_place(dst)
    _LOOKED_AT[dst.absolute()] = _inode(dst)
    if dst.exists() and not dst.is_dir():
        raise InputError("the destination is a file, a folder is needed", where=str(dst), hint="another DST")
    if not overwrite and dst.is_dir() and any(dst.iterdir()):
        raise InputError(
            "the destination folder is not empty", where=str(dst), hint="--overwrite, or another DST"
        )


def _check_place(dst: Path) -> None:
    """Raises InputError where no folder can be made."""
    if dst.name in ("", ".."):
        raise InputError("the destination has no name", where=str(dst), hint="name the folder")
    if dst.is_symlink() and not dst.exists():
        raise InputError(
            "the destination is a link to what is not there",
            where=str(dst),
            hint="remove the link, or another DST",
        )
    if file := file_above(dst):
        raise InputError(
            f"the destination lies below a file, {file.name}", where=str(dst), hint="another DST"
        )


def file_above(path: Path) -> Path | None:
    """The file that stands where a folder above `path` would have to be, None where nothing does."""
    nearest = next(above for above in path.absolute().parents if above.exists())
    return None if nearest.is_dir() else nearest


def check_beside(dst: Path) -> None:
    """Raises InputError when somebody else's `DST.partial` or `DST.replaced` lies where the work on `dst` goes on."""
    for path in (_beside(dst, ".partial"), _beside(dst, ".replaced")):
        if path.is_dir() and not path.is_symlink():
            if (path / MARKER).is_file() or not any(path.iterdir()):
                continue
        elif not path.exists() and not path.is_symlink():
            continue
        raise InputError(
            f"{path.name} is in the way of the work on {dst.name}, and xlam did not make it",
            where=str(path),
            hint="move it away, or name another destination",
        )


def _beside(dst: Path, suffix: str) -> Path:
    return dst.with_name(dst.name + suffix)


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def check_space(where: Path, needed_bytes: int) -> None:
    """Raises NoRoomError when the disk that holds `where` has less than `needed_bytes` free."""
    folder = where.absolute()
    while not folder.is_dir() or folder.suffix == ".partial":  # the person knows the final name only
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise _no_room(folder, f"{needed_bytes / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free")


@contextmanager
def whole_folder(dst: str | Path, *, resume: bool = False, what: str = "destination") -> Iterator[Path]:
    """Yields `DST.partial` to write into; it becomes `dst` at the end, and is removed when anything fails.

    A killed process leaves `DST.partial`, and so does an interrupted one when the folder holds a journal.

    Args:
      resume: go on in a `DST.partial` that was left, and leave it again when this fails too.
      what: the folder is, for messages.

    Raises:
      InputError: no folder can be made there, or `check_beside`.
      WorkError: another process writes there, or has finished since `check_free` looked.
      NoRoomError: the disk is full.
    """
    dst = Path(dst)
    _check_place(dst)
    partial, old = _beside(dst, ".partial"), _beside(dst, ".replaced")
    with room_on_disk(dst), Lease(lease_of(dst), what) as lease:
        here = _inode(dst)
        if _LOOKED_AT.pop(dst.absolute(), here) != here and here is not None:
            raise WorkError(
                f"another process finished this {what} meanwhile", where=str(dst), hint="another DST"
            )
        check_beside(dst)
        if not resume:
            _remove(partial)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            (partial / MARKER).touch()
            yield partial
            lease.check()
            _remove(old)
            if dst.exists():
                os.replace(dst, old)
                with suppress(OSError):  # a killed process may leave it: then it is known to be ours
                    if not old.is_symlink():
                        (old / MARKER).touch()
            (partial / MARKER).unlink()
            os.replace(partial, dst)
            _remove(old)
        except BaseException as e:
            if not ((resume or isinstance(e, KeyboardInterrupt)) and (partial / JOURNAL).is_file()):
                _remove(partial)
            raise


@contextmanager
def room_on_disk(where: Path) -> Iterator[None]:
    """Turns the system's "no space left", quota and file-size errors into a NoRoomError about `where`."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as e:  # tensorstore and ArrayRecord raise the last two
        if not is_no_room(e):
            raise
        raise _no_room(where, os.strerror(getattr(e, "errno", None) or errno.ENOSPC)) from e


def _no_room(where: Path, detail: str) -> NoRoomError:
    return NoRoomError(
        f"the disk is full: {detail}",
        where=str(where),
        hint="free some space or choose another disk",
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


@contextmanager
def whole_file(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yields `FILE.partial` to write; it becomes `path` at the end, and is removed when anything fails.

    Args:
      mode: of the file; else as the system's umask has it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        if mode is not None:
            os.chmod(partial, mode)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Writes a small file that is there whole or not at all."""
    with whole_file(path, mode) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping) -> None:
    """`write_text` of JSON as transformers writes it (two spaces, a final newline), for every reader."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", 0o644)


def read_text(path: Path, hint: str = "") -> str:
    """The text of a UTF-8 file; InputError, with `hint`, where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"not UTF-8: {e}", where=str(path), hint=hint) from e


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """The JSON object of a file; InputError, with `hint`, where it holds anything else, or what cannot be written
    again (half a surrogate pair, hundreds of levels)."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()
    except ValueError as e:
        raise InputError(f"not JSON: {e}", where=str(path), hint=hint) from e
    except RecursionError as e:
        raise _nested(path, hint) from e
    if not isinstance(content, dict):
        raise InputError(f"no JSON object but {type(content).__name__}", where=str(path), hint=hint)
    level: list[Any] = [content]
    for _ in range(_DEPTH):
        children = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list))
        level = [child for some in children for child in some]
    if level:
        raise _nested(path, hint)
    return content


def _nested(path: Path, hint: str) -> InputError:
    return InputError(f"JSON of more than {_DEPTH} levels", where=str(path), hint=hint)


def sha256_of(path: Path) -> str:
    """64 hexadecimal digits, as `sha256sum` prints."""
    with path.open("rb", buffering=0) as f:
        digest = hashlib.file_digest(f, "sha256")
        # The pages were read once; keeping them would only push others out.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()
