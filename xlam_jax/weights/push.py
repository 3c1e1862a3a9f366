"""A released folder to the hub: what would go, and the sending."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError, WorkError
from xlam_jax.weights.carried import README, no_part_of
from xlam_jax.weights.checksums import CHECKSUMS, check_files, checksums_text, read_checksums
from xlam_jax.weights.peft_config import CONFIG as ADAPTER_CONFIG


@dataclass(frozen=True)
class Upload:
    """What goes to a repository.

    Attributes:
      files: name -> bytes, of those that checksums.json knows.
      checksums: what is sent as checksums.json: the file, less a card that is not there.
      others: names of what else lies in the folder; it stays here.
    """

    folder: Path
    repo: str
    revision: str
    private: bool
    files: dict[str, int]
    others: list[str]
    checksums: bytes

    @property
    def nbytes(self) -> int:
        return sum(self.files.values())


def plan_upload(
    folder: Path,
    repo: str,
    *,
    revision: str = "main",
    private: bool = True,
    without_card: bool = False,
    progress: Callable[[str, int], None] = lambda name, nbytes: None,
) -> Upload:
    """Reads every file against checksums.json and says what would be sent.

    Args:
      repo: OWNER/NAME on the hub.
      revision: the branch.
      private: for a repository that is made by the upload.
      without_card: a folder without README.md is no error.
      progress: called with each file's name and the bytes of it that were read.

    Raises:
      InputError: no released folder, no card (unless `without_card`), a name that is no repository's.
      WorkError: files that changed since they were written.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as e:
        raise InputError(str(e).splitlines()[0], where=repo, hint="OWNER/NAME") from e
    if "/" not in repo:
        raise InputError("a repository has an owner", where=repo, hint=f"OWNER/{repo}")
    if (
        not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG))
        or (folder / "params").is_dir()
    ):
        raise InputError(
            "this is no released folder", where=str(folder), hint="xlam convert to-hf SRC DIR writes one"
        )
    if not (folder / README).is_file() and not without_card:
        raise InputError(
            "the folder has no model card (README.md)", where=str(folder),
            hint=f"xlam convert card {folder}, or --without-card",
        )  # fmt: skip
    files, checksums = read_checksums(folder), (folder / CHECKSUMS).read_bytes()
    if README in files and not (folder / README).is_file():  # `without_card`, or it would have ended above
        del files[README]
        checksums = checksums_text(files)
    check_files(folder, progress, files)
    sizes = {name: (folder / name).stat().st_size for name in files} | {CHECKSUMS: len(checksums)}
    others = no_part_of(folder, set(sizes))
    return Upload(folder, repo, revision, private, dict(sorted(sizes.items())), others, checksums)


def upload(plan: Upload) -> str:
    """Makes the repository where it is missing, sends the files in one commit, and returns the commit's address.

    The token is the one of HF_TOKEN, or of `hf auth login`; the hub that of HF_ENDPOINT.

    Raises:
      InputError: no token, one that the hub refuses, no right to write there, offline mode.
      WorkError: the hub cannot be reached, or refused for another reason.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    if get_token() is None:
        raise InputError(
            "no token for the hub", where="HF_TOKEN", hint="hf auth login, or HF_TOKEN=... before it"
        )
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(plan.repo, private=plan.private, exist_ok=True, repo_type="model")
        if plan.revision != "main":
            api.create_branch(plan.repo, branch=plan.revision, exist_ok=True)
        operations = [
            CommitOperationAdd(name, plan.checksums if name == CHECKSUMS else str(plan.folder / name))
            for name in plan.files
        ]
        done = api.create_commit(
            plan.repo, operations, commit_message="Release made by xlam-jax", revision=plan.revision
        )
    except OfflineModeIsEnabled as e:
        raise InputError(
            "offline mode is on", where="HF_HUB_OFFLINE", hint="HF_HUB_OFFLINE=0 before it"
        ) from e
    except HfHubHTTPError as e:
        raise _refused(e, plan) from e
    except HTTPError as e:
        said = (str(e).splitlines() or [type(e).__name__])[0]
        raise WorkError(
            f"the hub cannot be reached: {said}", where=api.endpoint, hint="the same command tries again"
        ) from e
    return str(done.commit_url)


def _refused(error: Any, plan: Upload) -> InputError | WorkError:
    status = error.response.status_code if error.response is not None else None
    if status == 401:
        return InputError(
            "the hub refuses the token", where="HF_TOKEN", hint="hf auth login, with a token that may write"
        )
    if status in (403, 404):
        return InputError(
            "the token may not write there, or there is no such owner", where=plan.repo,
            hint="a token with the right to write, or a repository of your own",
        )  # fmt: skip
    return WorkError(f"the hub refused: {str(error).splitlines()[0]}", where=plan.repo)
