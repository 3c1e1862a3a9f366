"""The plug-ins in vLLM's own Python sources, driven as its servers drive them: streamed and whole, old and new.

Needs no GPU: `XLAM_VLLM_SOURCES` names a folder with a folder for each release and `deps` for what vLLM imports.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xlam_jax.format import CALL_FORMATS, ToolCall, get_codec
from xlam_jax.format.vllm_plugin import NEWEST, OLDEST, parser_name, vllm_plugin

CHILD = Path(__file__).with_name("vllm_child.py")
DEPS = (
    "msgspec cbor2 xgrammar==0.2.8 partial-json-parser pybase64 ijson fastapi aiohttp pyzmq apache-tvm-ffi==0.1.11 "
    "openai-harmony cachetools blake3 einops prometheus-fastapi-instrumentator six setproctitle py-cpuinfo diskcache "
    "multidict yarl propcache aiosignal aiohappyeyeballs frozenlist"
)
FETCH = f"""vLLM's sources are not here; these two commands fetch them, and XLAM_VLLM_SOURCES=vllm-sources names them:
  for v in {OLDEST} {NEWEST}; do pip install --no-deps --target vllm-sources/$v vllm==$v; done
  pip install --no-deps --target vllm-sources/deps {DEPS}"""
CALLS = (
    ToolCall("get_weather", {"city": 'Oslo é "x"\n', "days": [1, 2.5], "more": {"a": None, "b": True}}),
    ToolCall("ping", {}),
)
SAID = "It is 3 C in Oslo. Is 1 < 2? [maybe] {x} #1\nThat is a good question."
CUTS = ("cut words", "cut in a mark", "cut early", "cut in arguments", "cut late")
CASES = ("calls", "words", "thought, calls", "words, calls", "calls, words", *CUTS)


def versions():
    """`(version, folders to import from)` of the releases at hand."""
    if folder := os.environ.get("XLAM_VLLM_SOURCES"):
        found = sorted(
            Path(folder).glob("[0-9]*.[0-9]*"), key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)]
        )
        deps = Path(folder) / "deps"
        return [(p.name, [str(p), str(deps)]) for p in found] if deps.is_dir() else []
    if (spec := importlib.util.find_spec("vllm")) and spec.origin:
        return [("installed", [str(Path(spec.origin).parents[1])])]
    return []


def texts(name):
    """The cases of a call format: `(case, codec, text, whether it is cut)`."""
    codec, thinking = get_codec(name), get_codec(name, thought=True)
    calls, words = codec.render_calls(CALLS), codec.render_calls((), SAID)
    yield "calls", codec, calls, False
    yield "words", codec, words, False
    yield "thought, calls", thinking, thinking.render_calls(CALLS, "I look it up.\nNow."), False
    yield "words, calls", codec, f"Sure.\n{calls}", False
    yield "calls, words", codec, f"{calls}\nThat is all.", False
    yield "cut words", codec, words[: len(words) * 2 // 3], True
    yield "cut in a mark", codec, "See <tool", True
    yield "cut early", codec, calls[: len(calls) // 8], True
    yield "cut in arguments", codec, calls[: len(calls) // 2], True
    yield "cut late", codec, calls[:-3], True


def child(folders, tmp_path, cases):
    """A row for each case, see `vllm_child.py`."""
    run = subprocess.run(
        [sys.executable, CHILD, *folders],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"VLLM_LOGGING_LEVEL": "ERROR"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def driven(folders, tmp_path, names, chunks):
    """Runs every case in one process: `{name: {case: row}}`, see `vllm_child.py`."""
    made = [(name, *case) for name in names for case in texts(name)]
    for name in names:
        (tmp_path / f"{name}.py").write_text(vllm_plugin(get_codec(name)), encoding="utf-8")
    cases = [
        {
            "file": str(tmp_path / f"{name}.py"),
            "name": parser_name(codec),
            "stop": codec.stop,
            "text": text,
            "cut": cut,
            "chunks": chunks,
        }
        for name, _, codec, text, cut in made
    ]
    rows = {name: {} for name in names}
    for (name, case, codec, text, cut), row in zip(made, child(folders, tmp_path, cases), strict=True):
        rows[name][case] = row | {"wrong": wrong(codec, text, cut, row)}
    return rows


def wrong(codec, text, cut, row):
    """Nothing where every chunking gives what the whole text gives, and what is not cut as the codec reads it."""
    whole = row["whole"]
    if sizes := [size for size, stream in row["streams"].items() if stream[:3] != whole]:
        return f"chunks of {sizes}: {row}"
    if not cut:
        answer = codec.parse(text, strict=False)
        calls = [[c.name, json.dumps(c.arguments, ensure_ascii=False)] for c in answer.tool_calls]
        if whole[:2] != [answer.thought, calls]:
            return f"the codec reads {answer}, the plug-in {whole}"
    # Words wait for the end only where they may begin a mark.
    late = row["streams"]["1"][4]
    if SAID.startswith(whole[0]) and late > len("<tool_calls>"):
        return f"{late} characters come with the end only: {whole}"
    return ""


@pytest.mark.parametrize("place", [0, -1], ids=["oldest", "newest"])
def test_a_plug_in_streams_what_it_reads(place, tmp_path):
    if not (found := versions()):
        pytest.skip(FETCH)
    version, folders = found[place]
    rows = driven(folders, tmp_path, ["xlam-json", "react"], [1, 0])
    assert not [row["wrong"] for cases in rows.values() for row in cases.values() if row["wrong"]], version
    assert rows["react"]["words"]["whole"][0] == SAID, version
    assert rows["xlam-json"]["cut in arguments"]["whole"][1][0][1].startswith('{"city": "Oslo')


def test_demanded_calls_are_constrained_by_llguidance(tmp_path):
    """The newest vLLM's own validation: xgrammar passes the grammar on, and llguidance takes it."""
    if not (found := versions()):
        pytest.skip(FETCH)
    cases = []
    for name in CALL_FORMATS:
        (tmp_path / f"{name}.py").write_text(vllm_plugin(get_codec(name)), encoding="utf-8")
        cases.append(
            {"file": str(tmp_path / f"{name}.py"), "name": parser_name(get_codec(name)), "demand": True}
        )
    for row in child([*found[-1][1], str(Path(__file__).parents[2])], tmp_path, cases):
        assert row == ["refused", "taken", "refused", "taken"]


@pytest.mark.slow
def test_every_plug_in_in_every_chunking(tmp_path, capsys):
    """Prints the table of docs/serving.md: how many pieces the arguments of two calls come in, a character a chunk."""
    if not (found := versions()):
        pytest.skip(FETCH)
    problems = []
    for version, folders in (found[0], found[-1]):
        rows = driven(folders, tmp_path, list(CALL_FORMATS), [1, 5, 12, 0])
        problems += [
            (version, name, case, r["wrong"]) for name in rows for case, r in rows[name].items() if r["wrong"]
        ]
        with capsys.disabled():
            print(f"\nvLLM {version}; `=`: chunks of 1, 5, 12 and all give what the whole text gives")
            print("| call format | " + " | ".join(CASES) + " | pieces |\n" + "|---" * (len(CASES) + 2) + "|")
            for name, row in rows.items():
                cells = ["differs" if row[case]["wrong"] else "=" for case in CASES]
                print(f"| `{name}` | " + " | ".join(cells) + f" | {row['calls']['streams']['1'][3]} |")
    assert not problems, problems
