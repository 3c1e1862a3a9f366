"""The vLLM plug-in files, run without this package: they read what the codecs read, whole and in chunks.

What they import is stood in for: the names, the signatures and the class attributes that they use, as three releases of
vLLM publish them. `test_vllm_sources.py` has the same in vLLM's own sources, where these are at hand.
"""

import json
import subprocess
import sys

import pytest

from tests.cases import long_but
from xlam_jax.format import CALL_FORMATS, ParseError, ToolCall, get_codec
from xlam_jax.format.vllm_plugin import parser_name, vllm_plugin

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
    ATTRIBUTES

    def __init__(self, tokenizer, tools=None):
        self.prev_tool_call_arr, self.streamed_args_for_tool, self.current_tool_id = [], [], -1
        self.model_tokenizer = tokenizer

    def adjust_request(self, request):
        request.adjusted = True
        return request

class ToolParserManager:
    tool_parsers = {}

    @classmethod
    def register_module(cls, name=None, force=True, module=None):
        cls.tool_parsers[name] = module
        return module
"""
RUN = """
import importlib.util, json, sys
sys.path[:0] = [sys.argv[1]]
assert importlib.util.find_spec("xlam_jax") is None
from PARSERS_MODULE import ToolParserManager
cases, out = json.load(sys.stdin), []
Request = type("Request", (), {"tools": ["any"], "tool_choice": "auto"})
for path in sorted({c["file"] for c in cases}):
    spec = importlib.util.spec_from_file_location("plugin", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
for case in cases:
    new = ToolParserManager.tool_parsers[case["name"]]
    got = new(None).extract_tool_calls(case["text"], Request)
    whole = [[c.function.name, c.function.arguments] for c in got.tool_calls]
    row = {"whole": [got.content, whole, got.tools_called], "streams": []}
    for chunks in case["splits"]:
        parser, before, words, calls = new(None), "", "", []
        for chunk in [*chunks, None]:
            after = before + (chunk or "")
            delta = parser.extract_tool_calls_streaming(before, after, chunk, [], [], [], Request) if chunk else None
            if chunk is None:
                delta = parser.finish_streaming()
            before = after
            words += getattr(delta, "content", "") or ""
            for call in getattr(delta, "tool_calls", ()):
                if call.index == len(calls):
                    assert call.id
                    calls.append([call.function.name, ""])
                calls[call.index][1] += getattr(call.function, "arguments", "")
        assert [c["name"] for c in parser.prev_tool_call_arr] == [c[0] for c in calls]
        assert parser.streamed_args_for_tool == [c[1] for c in calls]
        row["streams"].append([words, calls])
    request = type("Request", (Request,), {"skip_special_tokens": True})()
    assert not parser.adjust_request(request).skip_special_tokens and request.adjusted
    out.append(row)
json.dump(out, sys.stdout)
"""
NEW = "supports_required_and_named, engine_based_streaming = True, False"
LAYOUTS = {
    "0.29": ("vllm/entrypoints/generate/base/protocol.py", "vllm/tool_parsers/abstract_tool_parser.py", NEW),
    "0.20": ("vllm/entrypoints/openai/engine/protocol.py", "vllm/tool_parsers/abstract_tool_parser.py", NEW),
    "0.11": (
        "vllm/entrypoints/openai/protocol.py",
        "vllm/entrypoints/openai/tool_parsers/abstract_tool_parser.py",
        "pass",
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


@pytest.mark.parametrize("layout", long_but(["0.29"], LAYOUTS))
def test_plugins_stand_alone_and_read_as_the_codecs(layout, tmp_path):
    *places, attributes = LAYOUTS[layout]
    for path, source in zip(places, (PROTOCOL, PARSERS.replace("ATTRIBUTES", attributes)), strict=True):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        for folder in file.relative_to(tmp_path).parents:
            (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "plugins").mkdir()
    made = list(cases(tmp_path / "plugins"))
    made = made if layout == "0.29" else made[:: len(made) // 29]
    parsers = places[1].removesuffix(".py").replace("/", ".")
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
        content, whole, _ = got["whole"]
        for words, sent in got["streams"]:
            assert [words, sent] == [content or "", whole], (codec.name, text)
        if answer:
            calls = [[c.name, json.dumps(c.arguments, ensure_ascii=False)] for c in answer.tool_calls]
            called += bool(calls)
            assert whole[: len(calls)] == calls, (codec.name, text)  # a call that is cut off comes after them
            if len(whole) == len(calls):
                assert (content or "") == (answer.thought or ("" if calls else text)), (codec.name, text)
        else:
            broken += 1
            assert whole or content == text or not text, (codec.name, text)
    assert layout != "0.29" or (called >= 15 * 8 and broken >= 15)


def test_names():
    """What `--tool-call-parser` takes: the format's name behind `xlam-`, once."""
    names = [parser_name(get_codec(name)) for name in CALL_FORMATS]
    assert names[:2] == ["xlam-json", "xlam-json-array"] and len(set(names)) == 15
    assert all(name.count("xlam") == 1 for name in names)


def loaded(codec, attributes=NEW):
    """The parser class of a codec's plug-in, over stand-ins for what it imports."""
    space = {"__name__": "plugin"}
    exec(PROTOCOL + PARSERS.replace("ATTRIBUTES", attributes), space)
    modules = type("Modules", (), space)
    source = vllm_plugin(codec)
    head, tail = source.index("_openai = _vllm("), source.index("# Before 0.23")
    namespace = {"__name__": "plugin", "modules": modules}
    exec(source[:head] + "_openai = _parsers = modules\n" + source[tail:], namespace)
    return namespace["XlamToolParser"]


REQUEST = type("Request", (), {"tools": ["any"], "tool_choice": "auto", "max_tokens": None})


@pytest.mark.parametrize("name", ["hermes", "json-array", "xlam-json"])
def test_before_0_24_the_stop_token_or_the_length_brings_what_was_held_back(name):
    """Words that end like the beginning of a mark: no other end is told to a parser there."""
    codec = get_codec(name)
    tokenizer = type("Tokenizer", (), {"get_vocab": lambda self: {codec.stop: 7}})()
    for text in ("Is 1 < 2? See <tool", "Take [", "It is so.  "):
        for limit in (None, len(text)):
            parser, said = loaded(codec, "pass")(tokenizer), ""
            request = type("Request", (REQUEST,), {"max_tokens": limit})
            for i, chunk in enumerate([*text, ""] if limit is None else text):
                ids = [7] if i == len(text) else [1]
                delta = parser.extract_tool_calls_streaming("", "", chunk, [], [1] * (i + 1), ids, request)
                said += getattr(delta, "content", "") or ""
            assert said == text


def test_text_that_is_no_answer_goes_through_whole():
    """What no format reads is what the model said; a server that swallows it shows an empty reply."""
    parser_class = loaded(get_codec("xlam-json"))
    text = 'Hello. {"tool_calls" is what I do not say.'
    for size in (1, 5, len(text)):
        parser, said = parser_class(None), ""
        for i in range(0, len(text), size):
            chunk = text[i : i + size]
            delta = parser.extract_tool_calls_streaming("", chunk, chunk, [], [], [], REQUEST)
            said += delta.content if delta else ""
        assert said == text


def test_calls_that_nobody_asked_for_are_words():
    """Without tools, or with tool_choice "none", vLLM asks the parser all the same."""
    text = get_codec().render_calls(CALLS[0])
    for change in ({"tools": None}, {"tool_choice": "none"}):
        parser, request = loaded(get_codec())(None), type("Request", (REQUEST,), change)
        assert parser.extract_tool_calls(text, request).content == text
        assert parser.extract_tool_calls_streaming("", text, text, [], [], [], request).content == text
