"""`xlam convert card` and `push`: the model card, and the hub. What `to-hf` and its relatives say of a release."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, need_dir, print_table, say, working, write_json
from xlam_jax.errors import InputError

LicenseOption = Annotated[
    str,
    typer.Option(
        "--license",
        metavar="NAME",
        help="Of the release, such as apache-2.0; else the strictest of its parts.",
    ),
]
BaseOption = Annotated[
    str,
    typer.Option(
        "--base-model", metavar="OWNER/NAME", help="The base model's name on the hub, for the card."
    ),
]
NameOption = Annotated[str, typer.Option("--name", help="The model's name on its card.")]


def register(app: typer.Typer) -> None:
    app.command("card", epilog="Example: xlam convert card runs/released --name my-caller")(card)
    app.command("push", epilog="Example: xlam convert push runs/released me/my-caller")(push)


def card_facts(src: Path, license: str = "", base_model: str = "", name: str = "") -> dict[str, Any]:
    """What the card of a model made of `src` will say; InputError for a conflict of licences that `license` leaves."""
    from xlam_jax.weights.provenance import HUB_NAME, provenance, settle

    if base_model and not HUB_NAME.fullmatch(base_model):
        raise InputError(f"{base_model!r} is no name on the hub", where="--base-model", hint="OWNER/NAME")
    if license and not (license.isprintable() and "|" not in license and re.search(r"[a-zA-Z0-9]", license)):
        raise InputError(f"{license!r} is no name of a licence", where="--license", hint="such as apache-2.0")
    facts = settle(provenance(src, base_model), license, where=str(src))
    if not name.isprintable() or "|" in name:
        raise InputError(f"{name!r} is no name for a heading", where="--name", hint="one line without |")
    return {**facts, **({"name": name} if name else {})}


def card(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A released folder: of a model, or of adapters.")
    ],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--eval", metavar="FILE", help="A result of xlam eval (--json) on DIR; again for several."
        ),
    ] = None,
    license: LicenseOption = "",
    base_model: BaseOption = "",
    name: NameOption = "",
    json_file: JsonOption = None,
) -> None:
    """Write the model card (README.md) anew, with results, and its checksum."""
    need_dir(folder, "released folder")
    from xlam_jax.weights.adapter_card import is_adapter
    from xlam_jax.weights.cards import add_evaluations, update_card
    from xlam_jax.weights.evaluations import read_evaluations
    from xlam_jax.weights.hf_in import read_config
    from xlam_jax.weights.hf_out import read_xlam_json

    if (folder / "params").is_dir() or not (is_adapter(folder) or (folder / "config.json").is_file()):
        raise InputError(
            "this is no released folder", where=str(folder), hint="xlam convert to-hf SRC DIR writes one"
        )
    facts = card_facts(folder, license, base_model, name)
    weights = read_xlam_json(folder).get("weights_xxh3_128")
    for path in evaluation or ():
        facts = add_evaluations(facts, read_evaluations(path, weights))
    if not is_adapter(folder):
        read_config(folder)  # which the card needs: refused before anything is moved
    _keep_readme(folder)
    left_out = update_card(folder, facts)
    write_json(json_file, {"folder": str(folder), **facts, "left_out": left_out})
    results = len(facts["evaluations"])
    say(f"{folder / 'README.md'}: {facts['name']}, licence {facts['license']['name']}, {results} results")
    if left_out:
        say(f"no part of the release, without checksum, never sent: {', '.join(left_out)}")


def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A released folder: of a model, or of adapters.")
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Send it; without this nothing leaves the machine.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Make a repository that everybody sees.")] = False,
    revision: Annotated[str, typer.Option(help="Branch.")] = "main",
    without_card: Annotated[
        bool, typer.Option("--without-card", help="Send a folder that has no README.md.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Send a released folder to the hub, checked against its checksums; says what would go unless --yes."""
    need_dir(folder, "released folder")
    from xlam_jax.weights.push import plan_upload, upload

    with working(f"reading {folder}"):
        plan = plan_upload(folder, repo, revision=revision, private=not public, without_card=without_card)
    result = {
        "repo": repo,
        "revision": revision,
        "private": plan.private,
        "files": plan.files,
        "bytes": plan.nbytes,
    }
    print_table(f"{folder}", [{"file": name, "bytes": size} for name, size in plan.files.items()])
    if plan.others:
        err.print(f"not sent, since xlam convert did not write it: {', '.join(plan.others)}", highlight=False)
    seen = "private" if plan.private else "public"
    say(
        f"{len(plan.files)} files, {plan.nbytes / 1e6:.1f} MB, to {repo} ({seen} if it is new), revision {revision}"
    )
    if not yes:
        write_json(json_file, {**result, "sent": False})
        say("a dry run: nothing was sent; --yes sends it")
        return
    with working(f"sending to {repo}"):
        url = upload(plan)
    write_json(json_file, {**result, "sent": True, "commit": url})
    say(f"sent: {url}")


def _keep_readme(folder: Path) -> None:
    """A README of somebody else's folder stays, as the base's card does in a release."""
    from xlam_jax.weights.carried import BASE_README, readme_of
    from xlam_jax.weights.checksums import CHECKSUMS

    readme, kept = readme_of(folder), folder / BASE_README
    if (folder / CHECKSUMS).is_file() or readme is None:
        return
    if kept.exists():
        raise InputError(
            f"the folder has a {readme.name} and a {kept.name} of its own", where=str(folder),
            hint="move one of them away: the card is written to README.md",
        )  # fmt: skip
    readme.rename(kept)
    say(f"{readme.name} was kept as {kept.name}")
