"""What README.md, BUILD.md and the how-tos promise is there: extras, commands, images, rooms, links, the wheel."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import jax
import packaging
import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import xlam_jax
from tests.pages import PAGES, REPO, typed
from xlam_jax.cli.main import app
from xlam_jax.errors import InputError
from xlam_jax.extras import need

BUILD, README = PAGES["BUILD.md"], PAGES["README.md"]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = {name: [Requirement(r) for r in found] for name, found in PROJECT["optional-dependencies"].items()}
CORE = [Requirement(r) for r in PROJECT["dependencies"]]


def table(page, heading):
    """Rows of the first table below a heading, as lists of cells."""
    part = page.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    lines = re.search(r"(?:^\|.*\n)+", part, re.M)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


# -- extras ----


@functools.cache
def needs():
    """(extra or "", package, file) of each `need(package, extra)` of the product that names its package."""
    found = []
    for path in (REPO / "xlam_jax").rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "from xlam_jax.extras import need" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "need":
                package, extra = (*node.args, ast.Constant(""))[:2]
                if isinstance(package, ast.Constant):
                    found.append((extra.value, package.value, path))
    return found


@functools.cache
def imported():
    """Top-level names that modules of the package import, at their top or inside functions."""
    found = set()
    for path in (REPO / "xlam_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found |= {name.split(".")[0] for name in names}
    return found


COMPILERS = {"compile-h100", "compile-tpu"}  # libraries that JAX loads, for another Python than the tests'


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - {"dev"} - COMPILERS))
def test_every_package_of_an_extra_is_imported_by_the_product(extra):
    # All of these distributions are imported by their own names, but for dashes.
    assert {r.name.replace("-", "_") for r in EXTRAS[extra]} <= imported()


def test_the_test_environment_has_every_extra_that_needs_no_accelerator():
    dev = {r.name: r.specifier for r in EXTRAS["dev"]}
    for extra in set(EXTRAS) - {"dev", "cuda", "tpu"} - COMPILERS:
        for wanted in EXTRAS[extra]:
            assert dev.get(wanted.name) == wanted.specifier, f"{extra}: {wanted} is not in `dev`"


def test_the_table_of_extras_is_that_of_the_project():
    rows = {code(name)[0]: adds for name, adds, _ in table(BUILD, "Extras")}
    assert set(rows) == set(EXTRAS)
    for extra in set(EXTRAS) - {"dev"}:
        assert {r.name for r in EXTRAS[extra]} <= set(re.findall(r"[\w-]+", rows[extra]))


def test_every_extra_that_is_named_anywhere_exists():
    """In error messages too, which say what to install."""
    files = [
        p for folder in ("xlam_jax", "tests", "docs", "configs", "launch") for p in (REPO / folder).rglob("*")
    ]
    files += [REPO / name for name in ("README.md", "BUILD.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
    named = {}
    for path in files:
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".sh", ".sbatch", ""} and path.is_file():
            for found in re.findall(r"xlam-jax\[([a-z0-9, -]+)\]", path.read_text("utf-8")):
                named |= dict.fromkeys(found.replace(" ", "").split(","), path)
    named |= {extra: place for extra, _, place in needs() if extra}
    assert set(named) <= set(EXTRAS), named
    # Every extra but the tools and the accelerators stands in the hint of what needs it.
    assert set(EXTRAS) - set(named) == {"dev"}


def test_what_a_missing_package_is_said_to_come_with_brings_it():
    assert len(needs()) >= 14
    for extra, package, path in needs():
        brought = {r.name.replace("-", "_") for r in (EXTRAS[extra] if extra else CORE)}
        # ArrayRecord is Grain's own requirement, on the systems that have it.
        assert package in brought | {"array_record", "bfcl_eval"}, (
            f"{path}: {extra or 'the core'} lacks {package}"
        )


def test_a_missing_package_is_told_with_what_to_type():
    with pytest.raises(InputError) as told:
        need("no_such_package", "data", where="key", instead="key=off")
    assert str(told.value).splitlines() == [
        "no-such-package is not installed",
        "  where: key",
        "  try:   pip install 'xlam-jax[data]', or key=off",
    ]
    with pytest.raises(InputError, match="not installed") as told:
        need("no_such_package")
    assert told.value.hint == "pip install no-such-package" and told.value.exit_code == 2
    assert need("packaging") == [Path(packaging.__file__).parent]


# -- platforms, targets, versions ----


def test_rows_of_the_platforms():
    rows = table(BUILD, "Platforms")
    assert len(rows) == 4
    pythons = {version for _, python, _, _ in rows for version in python.split(", ")}
    classified = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    assert pythons == classified
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(f"{v}.0") for v in pythons)
    running = ".".join(map(str, sys.version_info[:2]))
    row = next((r for r in rows if r[1] == running), None)
    if row is None:
        pytest.skip(f"no row of BUILD.md is about Python {running}")
    if not row[2].startswith("newest"):
        assert jax.__version__ == row[2].split()[0]
    floor = next(r for r in CORE if r.name == "jax")
    assert f"`{floor}`" in BUILD
    assert all(r.specifier == floor.specifier for x in ("cuda", "tpu") for r in EXTRAS[x])
    assert floor.specifier.contains(jax.__version__)


@pytest.mark.parametrize(
    "words", [w for page in PAGES.values() for w in typed(page, "make")], ids=lambda w: " ".join(w[1:])
)
def test_what_make_is_asked_for_exists(words):
    goals = [w for w in words[1:] if "=" not in w]
    phony = re.search(r"^\.PHONY: (.+)$", (REPO / "Makefile").read_text("utf-8"), re.M)[1].split()
    assert goals and set(goals) <= set(phony)
    # Not told of a make that runs the tests.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    # -B: also what is up to date here.
    got = subprocess.run(["make", "-nB", *words[1:]], cwd=REPO, capture_output=True, text=True, env=env)
    assert got.returncode == 0, got.stderr
    for name, value in (w.split("=", 1) for w in words if "=" in w):
        assert value.strip('"') in got.stdout, f"{name} changes nothing"


def test_every_target_tells_what_it_does():
    got = subprocess.run(["make", "help"], cwd=REPO, capture_output=True, text=True)
    told = set(re.findall(r"^ {2}make ([a-z-]+) +\S", got.stdout, re.M))
    phony = re.search(r"^\.PHONY: (.+)$", (REPO / "Makefile").read_text("utf-8"), re.M)[1].split()
    assert told == set(phony) - {"help"} | (told & {"help"})


def test_one_version_everywhere():
    version = xlam_jax.__version__
    assert PROJECT["dynamic"] == ["version"]  # written once, in the package
    headings = re.findall(r"^## (.+)$", (REPO / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "Unreleased" or headings[0].split()[0].strip("[]") == version


# -- containers ----


@pytest.mark.parametrize("row", table(BUILD, "Containers"), ids=lambda row: row[0].strip("`"))
def test_rows_of_the_containers(row):
    folder = REPO / "launch/containers"
    name, (base,) = code(row[0])[0], code(row[1])
    lines = (folder / name).read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("FROM ")] == [f"FROM {base}"]
    assert lines[0].removeprefix("# ") in re.sub(" +", " ", BUILD)  # how it is built
    wanted = re.search(r"requirements-\w+\.txt", "\n".join(lines))[0]
    head, *rest = (folder / wanted).read_text("utf-8").splitlines()
    told = rest[0]
    pins = dict(line.split("==") for line in rest if not line.startswith("#"))
    assert pins["jax"] == re.search(r"JAX ([\d.]+)", row[2])[1]
    assert (
        f"jax=={pins['jax']}" in told and f"--python-version {base[len('python:') :].split('-')[0]} " in head
    )
    extras = re.findall(r"--extra (\w+)", told)
    assert extras == code(row[2])
    canonical = {re.sub(r"[-_.]+", "-", k).lower(): Version(v) for k, v in pins.items()}
    for requirement in (*CORE, *(r for extra in extras for r in EXTRAS[extra])):
        pin = canonical[re.sub(r"[-_.]+", "-", requirement.name).lower()]
        assert requirement.specifier.contains(pin), f"{wanted} has {pin}, {requirement} is wanted"


def test_the_images_find_what_they_copy():
    let_in = (REPO / ".dockerignore").read_text("utf-8").splitlines()
    for file in (REPO / "launch/containers").glob("Dockerfile.*"):
        copied = re.findall(r"^COPY (.+) \S+$", file.read_text("utf-8"), re.M)
        for path in (p for line in copied for p in line.split()):
            assert (REPO / path).exists()
            assert f"!{path}" in let_in or f"!{re.sub(r'-[a-z]+.txt', '-*.txt', path)}" in let_in


# -- the wheel ----


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    import setuptools

    if Version(setuptools.__version__) < Version("77"):
        pytest.skip("setuptools is older than pyproject.toml wants; a build fetches its own")
    source = tmp_path / "source"
    # A copy, because a build leaves folders behind that the next one would take for part of the package.
    shutil.copytree(REPO / "xlam_jax", source / "xlam_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPO / name, source)
    (source / "configs").mkdir()
    (source / "configs" / "x.yaml").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("xlam_jax-*.whl")
    assert wheel.name == f"xlam_jax-{xlam_jax.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        held = {n for n in opened.namelist() if ".dist-info/" not in n}
    ours = {str(p.relative_to(source)) for p in (source / "xlam_jax").rglob("*") if p.is_file()}
    assert held == ours
    assert {".json", ".jinja", ".html"} <= {os.path.splitext(n)[1] for n in held}


# -- words ----


def test_the_table_of_rooms_is_that_of_the_package():
    rooms = {name for first, _ in table(README, "What is inside") for name in code(first)}
    assert rooms == {p.parent.name for p in (REPO / "xlam_jax").glob("*/__init__.py")}


def test_each_route_of_the_architecture_is_read_in_at_most_eight_files():
    routes = PAGES["ARCHITECTURE.md"].split("## Three routes")[1].split("\n## ")[0].split("\n\n**")[1:]
    assert len(routes) == 3
    for route in routes:
        files = re.findall(r"^\d+\. `(\S+\.py)`", route, re.M)
        assert 7 <= len(files) <= 8 and len(re.findall(r"\w+\.py", route)) == len(files), route


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    folder = REPO if (REPO / name).exists() else REPO / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if not target.startswith("https://"):
            assert (folder / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name):
    """Of the repository; what a command writes is under runs/."""
    kept = r"(?:benchmarks|configs|docs|launch|tests|xlam_jax)/[\w./*-]+"
    for path in re.findall(rf"(?<![\w/.-]){kept}", PAGES[name]):
        path = path.rstrip(".")
        assert list(REPO.glob(path)) or path in ABSENT, path


# Named where a person is told how to make them.
ABSENT = {"benchmarks/accelerator"}


def test_files_that_are_said_to_be_absent_are():
    pages = "".join(PAGES.values())
    assert all(path in pages and not (REPO / path).exists() for path in ABSENT)


@functools.cache
def _command():
    return typer.main.get_command(app)


@pytest.mark.parametrize("words", [w for page in PAGES.values() for w in typed(page, "xlam")], ids=" ".join)
def test_commands_and_options_that_are_named_exist(words):
    """Also those that no test can run."""
    command, rest = _command(), words[1:]
    while rest and (found := getattr(command, "commands", {}).get(rest[0])):
        command, rest = found, rest[1:]
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    # A group without the name of a command is only spoken of.
    assert rest != words[1:]
    assert {w.split("=")[0] for w in rest if w.startswith("--")} <= options


def test_counts_that_the_readme_gives():
    from xlam_jax.apigen.library import load_library
    from xlam_jax.format.call_formats import CALL_FORMATS
    from xlam_jax.records.sources import SOURCES

    said = " ".join(README.split())
    assert f"# {len(load_library())} real functions" in said
    assert f"# {len(SOURCES)} sources" in said
    assert f"format, {len(CALL_FORMATS)} of them," in said
