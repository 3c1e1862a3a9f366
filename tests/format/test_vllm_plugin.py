"""The vLLM plug-in files, run without this package: they read what the codecs read, whole and in chunks."""

import json
import subprocess
import sys

import pytest

from xlam_jax.format import CALL_FORMATS, ParseError, ToolCall, get_codec
from xlam_jax.format.vllm_plugin import parser_name, vllm_plugin

# The interface that the file imports, with vLLM's names: messages, the base class, the registry.
PROTOCOL = """
class _Message:
    def __init__(self, **fields):
        self.__dict__.update(fields)

class FunctionCall(_Message): pass
class ToolCall(_Message): pass
class DeltaFunctionCall(_Message): pass
class DeltaToolCall(_Message): pass
class DeltaMessage(_Message): pass
class ExtractedToolCallInformation(_Message): pass
"""
PARSERS = """
class ToolParser:
    def __init__(self, tokenizer, tools=None):
        self.model_tokenizer = tokenizer

    def adjust_request(self, request):
        request.adjusted = True
        return request

class ToolParserManager:
    parsers = {}

    @classmethod
    def register_module(cls, name):
        return lambda parser: cls.parsers.setdefault(name, parser)
"""
RUN = """
import importlib.util, json, sys
sys.path[:0] = [sys.argv[1]]
assert importlib.util.find_spec("xlam_jax") is None
from PARSERS_MODULE import ToolParserManager
cases, out = json.load(sys.stdin), []
for path in sorted({c["file"] for c in cases}):
    spec = importlib.util.spec_from_file_location("plugin", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
for case in cases:
    parser = ToolParserManager.parsers[case["name"]](None)
    got = parser.extract_tool_calls(case["text"], None)
    whole = [[c.function.name, c.function.arguments] for c in got.tool_calls]
    row = {"whole": [got.content, whole, got.tools_called], "streams": []}
    for chunks in case["splits"]:  # the same parser again: a new text begins anew
        before, words, calls = "", "", []
        for chunk in chunks:
            after = before + chunk
            delta = parser.extract_tool_calls_streaming(before, after, chunk, [], [], [], None)
            before = after
            words += getattr(delta, "content", "") or ""
            for call in getattr(delta, "tool_calls", ()):
                assert call.index == len(calls) and call.id
                calls.append([call.function.name, call.function.arguments])
        kept = [(c["name"], c["arguments"]) for c in parser.prev_tool_call_arr]
        assert [[name, json.dumps(a, ensure_ascii=False)] for name, a in kept] == calls
        assert parser.streamed_args_for_tool == [c[1] for c in calls]
        row["streams"].append([words, calls])
    request = type("Request", (), {"skip_special_tokens": True})()
    assert not parser.adjust_request(request).skip_special_tokens and request.adjusted
    out.append(row)
json.dump(out, sys.stdout)
"""
LAYOUTS = {
    "new": ("vllm/entrypoints/openai/engine/protocol.py", "vllm/tool_parsers/abstract_tool_parser.py"),
    "old": (
        "vllm/entrypoints/openai/protocol.py",
        "vllm/entrypoints/openai/tool_parsers/abstract_tool_parser.py",
    ),
}
CALLS = (
    (ToolCall("f", {}), ToolCall("g", {"a": [1, "é東京", {"b": None}], "text": 'quo"te {x}'})),
    (ToolCall("ping", {}),),
    (ToolCall("f", {"x": 1.5}), ToolCall("f", {"x": 1.5}), ToolCall("f", {"x": "1.5"})),
    (),
)


def cases(folder):
    """Every format: calls with and without thoughts, replies, broken text; each in four splits."""
    for number, name in enumerate(CALL_FORMATS):
        template = ("chatml", "deepseek-coder", "mistral-v3")[number % 3]
        file = folder / f"{name}.py"
        for thought in (False, True):
            codec = get_codec(name, template, thought=thought)
            file.write_text(vllm_plugin(codec), encoding="utf-8")
            chat = codec.chat
            texts = [
                chat.lead + codec.render_calls(calls, "I look it up.\n" if calls else "No tool fits.")
                for calls in CALLS
            ]
            texts += [t + chat.before_stop + chat.stop for t in texts[:2]]
            whole = texts[0].removeprefix(chat.lead)
            texts += [
                f"Sure.\n{whole}\nThat is all.",
                f"<think>{whole}?</think>\n{whole}",
                "No call at all, [1, 2",
            ]
            texts += ["{broken", "{broken", texts[0][: len(texts[0]) * 2 // 3], ""]
            for text in texts:
                half = len(text) // 2
                splits = [
                    [text],
                    list(text),
                    [text[:half], text[half:]],
                    [text[i : i + 7] for i in range(0, len(text), 7)],
                ]
                yield codec, {"file": str(file), "name": parser_name(codec), "text": text, "splits": splits}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plugins_stand_alone_and_read_as_the_codecs(layout, tmp_path):
    for path, source in zip(LAYOUTS[layout], (PROTOCOL, PARSERS), strict=True):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        for folder in file.relative_to(tmp_path).parents:
            (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "plugins").mkdir()
    made = list(cases(tmp_path / "plugins"))
    parsers = LAYOUTS[layout][1].removesuffix(".py").replace("/", ".")
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RUN.replace("PARSERS_MODULE", parsers), str(tmp_path)],
        input=json.dumps([case for _, case in made]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    called = broken = 0
    for (codec, case), got in zip(made, json.loads(run.stdout), strict=True):
        text = case["text"]
        try:
            answer = codec.parse(text, strict=False)
        except ParseError:
            answer = None
        if answer is None:
            assert got["whole"] == [text, [], False]
            broken += 1
            for words, calls in got["streams"]:
                # A call that never ends is not sent; nothing is sent twice, and no call is guessed.
                assert len(words) <= len(text) and len(calls) <= 2
        else:
            calls = [[c.name, json.dumps(c.arguments, ensure_ascii=False)] for c in answer.tool_calls]
            assert got["whole"] == [answer.thought or None, calls, bool(calls)]
            called += bool(calls)
            for words, sent in got["streams"]:
                assert sent == calls, (codec.name, text)
                assert answer.thought.startswith(words), (codec.name, words)
                if text.endswith(codec.stop):
                    assert words == answer.thought
    assert called >= 15 * 8 and broken >= 15


def loaded(codec):
    """The parser class of a codec's plug-in, over stand-ins for what it imports."""
    namespace = {"__name__": "plugin"}
    source = vllm_plugin(codec)
    head, tail = source.index("try:"), source.index("class XlamError")
    stand_in = PARSERS + "_openai = type('M', (), {})\n" + PROTOCOL + "for k in list(globals().values()):\n"
    stand_in += "    if isinstance(k, type): setattr(_openai, k.__name__, k)\n"
    exec(source[:head] + stand_in + source[tail:], namespace)
    return namespace["XlamToolParser"]


@pytest.mark.parametrize("name", ["hermes", "json-array", "xlam-json"])
def test_the_stop_token_brings_what_was_held_back(name):
    """Words that end like the beginning of a mark, and a last call that only the end completes."""
    codec = get_codec(name)
    tokenizer = type("Tokenizer", (), {"get_vocab": lambda self: {codec.stop: 7}})()
    for text in ("Is 1 < 2? See <tool", "Take [", "It is so.  ", "Action: f\nAction Input: null"):
        parser, said, calls = loaded(codec)(tokenizer), "", []
        for i, chunk in enumerate([*text, ""]):
            ids = [7] if i == len(text) else [1]
            delta = parser.extract_tool_calls_streaming(text[:i], text[: i + 1], chunk, [], [], ids, None)
            said += getattr(delta, "content", "") or ""
            calls += [c.function.name for c in getattr(delta, "tool_calls", ())]
        answer = codec.parse(text, strict=False)
        assert (said, calls) == (answer.thought, [c.name for c in answer.tool_calls])


def test_text_that_is_no_answer_goes_through_whole(tmp_path):
    """What no format reads is what the model said; a server that swallows it shows an empty reply."""
    parser_class = loaded(get_codec("xlam-json"))
    text = 'Hello. {"tool_calls" is what I do not say.'
    for size in (1, 5, len(text)):
        parser, said, before = parser_class(None), "", ""
        for i in range(0, len(text), size):
            chunk = text[i : i + size]
            delta = parser.extract_tool_calls_streaming(before, before + chunk, chunk, [], [], [], None)
            before += chunk
            said += delta.content if delta else ""
        assert said == text
