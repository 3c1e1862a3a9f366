"""Every command's help shows an example, and every example works as typed."""

import json
import re
import shlex

import pytest
import typer.main

from tests.pages import PAGES, commands_of
from xlam_jax.cli.main import app


def commands():
    """(words, click command) of the root and of everything below it."""

    def walk(words, command):
        yield words, command
        for name, child in sorted(getattr(command, "commands", {}).items()):
            yield from walk((*words, name), child)

    return list(walk((), typer.main.get_command(app)))


def example(command):
    found = re.fullmatch(r"Example: (xlam .+)", command.epilog or "")
    return found[1] if found else None


@pytest.mark.parametrize(
    ("words", "command"), commands(), ids=lambda x: " ".join(x) if isinstance(x, tuple) else ""
)
def test_help_has_an_example_of_this_command(words, command, xlam):
    assert example(command), f"xlam {' '.join(words)} has no example"
    assert shlex.split(example(command))[1 : len(words) + 1] == list(words)
    got = xlam(*words, "--help")
    assert got.code == 0 and "Example: xlam" in got.out


# One row of our own in BFCL's native spelling, since its files belong to their owners.
BFCL_QUESTION = {
    "id": "simple_0",
    "question": [[{"role": "user", "content": "What is 3 squared?"}]],
    "function": [
        {
            "name": "square",
            "description": "Square a number.",
            "parameters": {
                "type": "dict",
                "properties": {"x": {"type": "integer", "description": "the number"}},
                "required": ["x"],
            },
        }
    ],
}
BFCL_ANSWER = {"id": "simple_0", "ground_truth": [{"square": {"x": [3]}}]}


@pytest.mark.slow
@pytest.mark.real
def test_the_example_of_a_call_works_with_real_weights(world, xlam, at, tmp_path):
    """A random model cannot make a call; the untuned real one can, under the grammar."""
    from xlam_jax.errors import InputError
    from xlam_jax.weights import base_model

    try:
        gguf = base_model.find_smollm2()
    except InputError as e:
        pytest.skip(f"real weights needed: {e}")
    at(tmp_path)
    (tmp_path / "configs").symlink_to((world / "configs").resolve())
    assert xlam("convert", "from-hf", gguf, "runs/base0").code == 0
    assert xlam("convert", "to-hf", "runs/base0", "runs/demo/model").code == 0
    typed = {example(command) for _, command in commands() if "xlam call" in (example(command) or "")}
    assert typed
    for line in typed:
        got = xlam(*shlex.split(line)[1:])
        assert got.code == 0, f"{line}\n{got.out[-500:]}\n{got.err}"


@pytest.mark.slow  # more than a minute of CPU; the pages' commands, which are many of them, are typed by test_docs.py
def test_examples_work_as_typed(world, xlam, at, tmp_path_factory):
    root = tmp_path_factory.mktemp("typed")
    at(root)
    (root / "configs").symlink_to((world / "configs").resolve())
    (root / "runs/demo").mkdir(parents=True)
    for name in ("base", "model"):
        (root / "runs/demo" / name).symlink_to(world / "runs/demo" / name)
    answers = root / "data/bfcl_v2/possible_answer"
    answers.mkdir(parents=True)
    (answers.parent / "BFCL_v2_simple.json").write_text(json.dumps(BFCL_QUESTION) + "\n")
    (answers / "BFCL_v2_simple.json").write_text(json.dumps(BFCL_ANSWER) + "\n")
    assert xlam("apigen", "run", "configs/demo/apigen.yaml", "rows=30", "heldout_rows=4").code == 0
    pairs = ("configs/demo/records.jsonl", "runs/demo/pairs.jsonl", "--corruptions", "all")
    assert xlam("data", "pairs", *pairs).code == 0
    assert xlam("data", "build", "configs/demo/pairs.yaml").code == 0

    # What a page of docs/ has typed is typed there (test_docs.py), but for what later examples stand on.
    elsewhere = {line for name in PAGES if name != "README.md" for line in commands_of(name)}
    done = set()
    order = ["data build", "train", "convert from-hf", "convert to-hf", "convert to-peft"]
    # No example trains adapters, a key of the config does.
    before = {"convert to-peft": "train configs/demo/lora.yaml steps=1 out=runs/lora"}
    rest = [" ".join(words) for words, c in commands() if words and not hasattr(c, "commands")]
    by_words = {" ".join(words): c for words, c in commands()}
    for words in [*order, *(w for w in rest if w not in order), *by_words]:
        typed = example(by_words[words])
        # `make demo` is that example; a judge needs an endpoint, which test_data_verify.py has; a call needs a model.
        if (
            typed in done
            or (typed in elsewhere and words not in order)
            or words in ("demo", "data judge-calibrate", "call")
        ):
            continue
        done.add(typed)
        if words in before:
            assert xlam(*shlex.split(before[words])).code == 0
        got = xlam(*shlex.split(typed)[1:])
        assert got.code == 0, f"{typed}\n{got.out[-500:]}\n{got.err}"
    assert len(done) >= 9
