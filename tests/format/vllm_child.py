"""Runs in a process of its own, with vLLM's own Python sources: loads plug-ins and drives them as a server does.

Arguments: the folder that holds `vllm/`, further folders to import from. Standard input: JSON list of cases with
`file`, `name`, `stop`, `text`, `cut`, and `chunks`, sizes in characters, which stand for tokens here. Standard output,
last line: JSON list of `{"whole": [content, calls, finish], "streams": {size: [..., pieces, late]}}`,
calls as `[name, arguments]`; `pieces` counts deltas with arguments, `late` the characters of content that were sent
only with the end. A case with `demand` has `["refused", "taken"]` of xgrammar and llguidance for `required` and for a
named tool instead.
"""

import asyncio
import importlib
import json
import sys
import types

sys.path[:0] = sys.argv[1:2]
sys.path += sys.argv[2:]

STOP = 1  # the stop token's id; a character's id is its code and 2


def found(*places):
    for place in places:
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"none of {places}")


manager = found(
    "vllm.tool_parsers.abstract_tool_parser", "vllm.entrypoints.openai.tool_parsers.abstract_tool_parser"
).ToolParserManager
Request = found(
    "vllm.entrypoints.openai.chat_completion.protocol", "vllm.entrypoints.openai.protocol"
).ChatCompletionRequest
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("get_weather", "ping")
]


class Tokenizer:
    """What a parser may ask a tokenizer: the ids of its tokens."""

    def __init__(self, stop):
        self.stop = stop

    def get_vocab(self):
        return {self.stop: STOP}


def request_of(**fields):
    return Request(model="m", messages=[{"role": "user", "content": "x"}], tools=TOOLS, **fields)


def outputs(case, size):
    """`(text, ids, reason)` a delta: the stop token, which has no text, comes alone or with all of it."""
    text = case["text"]
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    steps = [(part, [ord(c) + 2 for c in part], None) for part in parts]
    if case["cut"]:
        return [*steps[:-1], (*steps[-1][:2], "length")]
    if len(steps) == 1:
        return [(steps[0][0], [*steps[0][1], STOP], "stop")]
    return [*steps, ("", [STOP], "stop")]


def added(deltas):
    """The sum of the deltas, as clients build it: `[content, calls, pieces, late]`."""
    content, calls, pieces, late = "", [], 0, 0
    for delta in deltas:
        said = delta.get("content") or ""
        content, late = content + said, len(said)
        for entry in delta.get("tool_calls") or ():
            if entry["index"] == len(calls):
                calls.append([entry["function"]["name"], ""])
                assert entry["id"] and entry["type"] == "function", entry
            call, function = calls[entry["index"]], entry.get("function") or {}
            assert function.get("name") in (None, call[0]), entry
            call[1] += function.get("arguments") or ""
            pieces += bool(function.get("arguments"))
    return [content, calls, pieces, late]


class Unified:
    """vLLM with `DelegatingParser`, which the chat server asks for every answer and every delta."""

    def __init__(self, case):
        parsers = importlib.import_module("vllm.parser").ParserManager
        made = parsers.get_parser(tool_parser_name=case["name"], enable_auto_tools=True)
        assert issubclass(made, importlib.import_module("vllm.parser.abstract_parser").DelegatingParser)
        self.case, self.request = case, request_of()
        self.new = lambda: made(Tokenizer(case["stop"]), self.request.tools)

    def whole(self):
        _, content, calls = self.new().parse(self.case["text"], self.request, enable_auto_tools=True)
        return [content or "", [[c.name, c.arguments] for c in calls or ()], ""]

    def stream(self, size):
        parser, deltas = self.new(), []
        for text, ids, reason in outputs(self.case, size):
            # Whatever the id of the stop token is, it decides nothing.
            ids = [i for i in ids if i != STOP]
            delta = parser.parse_delta(text, ids, self.request, prompt_token_ids=[5], finished=bool(reason))
            deltas.append(delta.model_dump(exclude_unset=True) if delta else {})
        content, calls, pieces, late = added(deltas)
        return [content, calls, "", pieces, late]


class Chat:
    """vLLM before 0.24, whose chat server asks the tool parser itself: its own generators, over made-up outputs."""

    def __init__(self, case):
        serving = importlib.import_module("vllm.entrypoints.openai.serving_chat")
        server = object.__new__(serving.OpenAIServingChat)
        server.tool_parser, server.enable_auto_tools = manager.get_tool_parser(case["name"]), True
        server.response_role, server.tool_call_id_type = "assistant", "random"
        for name in ("use_harmony", "enable_prompt_tokens_details", "enable_log_outputs"):
            setattr(server, name, False)
        server.reasoning_parser = server.request_logger = None
        self.server, self.case = server, case

    def arguments(self, stream, steps):
        request = request_of(
            stream=stream, **({"max_tokens": len(self.case["text"])} if self.case["cut"] else {})
        )

        async def results():
            for text, ids, reason in steps:
                one = types.SimpleNamespace(
                    index=0, text=text, token_ids=ids, logprobs=None, finish_reason=reason, stop_reason=None
                )
                yield types.SimpleNamespace(
                    prompt_token_ids=[5], encoder_prompt_token_ids=None, num_cached_tokens=None, outputs=[one],
                    prompt_logprobs=None, kv_transfer_params=None,
                )  # fmt: skip

        meta = types.SimpleNamespace(final_usage_info=None)
        return request, results(), "id", "m", [], Tokenizer(self.case["stop"]), meta

    def whole(self):
        steps = outputs(self.case, len(self.case["text"]))
        made = asyncio.run(self.server.chat_completion_full_generator(*self.arguments(False, steps)))
        message, reason = made.choices[0].message, made.choices[0].finish_reason
        calls = [[c.function.name, c.function.arguments] for c in message.tool_calls or ()]
        return [message.content or "", calls, reason]

    def stream(self, size):
        async def read():
            arguments = self.arguments(True, outputs(self.case, size))
            return [line async for line in self.server.chat_completion_stream_generator(*arguments, False)]

        events = [line.removeprefix("data: ").strip() for line in asyncio.run(read())]
        choices = [c for e in events if e != "[DONE]" for c in json.loads(e)["choices"]]
        content, calls, pieces, late = added([c["delta"] for c in choices])
        return [content, calls, choices[-1]["finish_reason"], pieces, late]


def demanded(case):
    """What vLLM's backends say to the grammar of `required` and of a named tool."""
    sampling = importlib.import_module("vllm.sampling_params").SamplingParams
    backends = [
        importlib.import_module(f"vllm.v1.structured_output.backend_{b}") for b in ("xgrammar", "guidance")
    ]
    out = []
    for choice in ("required", {"type": "function", "function": {"name": "ping"}}):
        request = request_of(tool_choice=choice)
        made = importlib.import_module("vllm.parser").ParserManager.get_parser(
            tool_parser_name=case["name"], enable_auto_tools=True
        )
        request = made(Tokenizer("stop"), request.tools).adjust_request(request)
        asked = sampling(structured_outputs=request.structured_outputs)
        for check in (backends[0].validate_xgrammar_grammar, backends[1].validate_guidance_grammar):
            try:
                check(asked)
                out.append("taken")
            except Exception as e:  # vLLM's own error is no ValueError in every release
                named = type(e).__name__ in ("ValueError", "VLLMValidationError")
                out.append("refused" if named else repr(e))
    return out


def main():
    cases = json.load(sys.stdin)
    for file, name in sorted({(case["file"], case["name"]) for case in cases}):
        manager.import_tool_parser(file)
        assert manager.get_tool_parser(name).__name__ == "XlamToolParser", name
    try:
        unified = hasattr(
            importlib.import_module("vllm.parser.abstract_parser").DelegatingParser, "_flush_engine_parsers"
        )
    except ModuleNotFoundError:
        unified = False
    rows = []
    for case in cases:
        if case.get("demand"):
            rows.append(demanded(case))
            continue
        server = (Unified if unified else Chat)(case)
        streams = {size: server.stream(size or len(case["text"])) for size in case["chunks"]}
        rows.append({"whole": server.whole(), "streams": streams})
    print("\n" + json.dumps(rows))


if __name__ == "__main__":
    main()
