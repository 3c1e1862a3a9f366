"""The vLLM plug-in of a codec: one Python file that stands alone, made of the codec's own reader.

What vLLM runs is the code that the tests prove: the reader's source is taken from this package, and what it
does not use is left out. It works in two interfaces of vLLM. Since 0.24 a server tells a parser that the text has
ended (`finish_streaming`); before, only the stop token or the asked-for length tells so. vLLM's newer `Parser` takes
a `ToolParser` by its `DelegatingParser`; a `Parser` of our own would have no option to load it by.

Served with `vllm serve DIR --enable-auto-tool-choice --tool-parser-plugin FILE
--tool-call-parser NAME`.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field

from xlam_jax import __version__
from xlam_jax.errors import InputError
from xlam_jax.format.codec import Codec

# Writing, constraining and asking happen elsewhere: a server only reads.
_UNUSED = (
    "render",
    "grammar",
    "_values",
    "_call_head",
    "_call_rule",
    "instructions",
    "jinja",
    "write",
    "lark",
)
# vLLM's releases whose interface the plug-in is tested with; where its classes lived has changed twice.
OLDEST, NEWEST = "0.11.0", "0.33.0"


def parser_name(codec: Codec) -> str:
    """The name for `--tool-call-parser`: `xlam-json`, `xlam-hermes`."""
    return f"xlam-{codec.call_format.removeprefix('xlam-')}"


def vllm_plugin(codec: Codec) -> str:
    """The plug-in's text.

    Raises:
      InputError: the reader uses a name in two meanings, so that its parts cannot stand in one file.
    """
    cls = type(codec.format)
    bundle = _Bundle()
    bundle.add(cls.__module__, cls.__name__)
    bundle.add("xlam_jax.format.turn_stream", "TurnStream")
    bundle.add("xlam_jax.format.delta_stream", "DeltaStream")
    imports, source = bundle.text()
    chat = {"lead": codec.chat.lead, "before_stop": codec.chat.before_stop, "stop": codec.chat.stop}
    return _FILE.format(
        name=parser_name(codec),
        version=__version__,
        codec=codec.name,
        settings=repr(codec.settings),
        versions=f"{OLDEST} to {NEWEST}",
        imports="\n".join(imports),
        source=source,
        format=cls.__name__,
        **{key: repr(value) for key, value in chat.items()},
    )


@dataclass
class _Bundle:
    """Top-level statements reachable from the names that were added, in the order of their use."""

    statements: list[ast.stmt] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    done: set[tuple[str, str]] = field(default_factory=set)
    imports: set[str] = field(default_factory=lambda: {"import importlib", "import json", "import uuid"})

    def add(self, module: str, name: str) -> None:
        """Adds what `name` of a module is, after all that it uses."""
        for statement in _statements(module):
            if isinstance(statement, ast.ImportFrom | ast.Import):
                if self._imported(statement, name):
                    return
            elif name in _defined(statement):
                owner = self.owners.setdefault(name, module)
                if owner != module:
                    what = f"{name} means two things, in {owner} and {module}"
                    raise InputError(what, where="the plug-in of this call format")
                if (module, name) not in self.done:
                    self.done.add((module, name))
                    statement = copy.deepcopy(statement)
                    _prune(statement)
                    for used in dict.fromkeys(_used(statement)):
                        self.add(module, used)
                    self.statements.append(statement)
                return

    def _imported(self, statement: ast.ImportFrom | ast.Import, name: str) -> bool:
        for alias in statement.names:
            if (alias.asname or alias.name) != name:
                continue
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("xlam_jax"):
                self.add(statement.module or "", alias.name)
            elif isinstance(statement, ast.ImportFrom):
                self.imports.add(f"from {statement.module} import {alias.name}")
            else:
                self.imports.add(f"import {alias.name}")
            return True
        return False

    def text(self) -> tuple[list[str], str]:
        """Import lines, and the statements."""
        imports = sorted(self.imports, key=lambda line: (line.startswith("from"), line))
        return imports, "\n\n\n".join(ast.unparse(statement) for statement in self.statements)


@functools.cache
def _statements(module: str) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(importlib.import_module(module))).body


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _prune(statement: ast.stmt) -> None:
    if isinstance(statement, ast.ClassDef):
        kept = [s for s in statement.body if not (isinstance(s, ast.FunctionDef) and s.name in _UNUSED)]
        statement.body = kept or [ast.Pass()]


def _used(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement needs when it runs; annotations do not run."""
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                argument.annotation = None
    for node in ast.walk(statement):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant("")
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


_FILE = '''"""vLLM tool parser {name}, for {codec}.

Made by xlam-jax {version} (Apache-2.0); stands alone. For vLLM {versions}:
  vllm serve MODEL --enable-auto-tool-choice --tool-parser-plugin THIS_FILE --tool-call-parser {name}
"""

from __future__ import annotations

{imports}


def _vllm(name, *places):
    """The first of these modules of vLLM that has the name."""
    for place in places:
        try:
            module = importlib.import_module("vllm." + place)
        except ImportError:
            continue
        if hasattr(module, name):
            return module
    raise ImportError("no " + name + " in this vLLM: {name} was made for {versions}")


_openai = _vllm(
    "ExtractedToolCallInformation",
    "entrypoints.generate.base.protocol",
    "entrypoints.openai.engine.protocol",
    "entrypoints.openai.protocol",
)
_parsers = _vllm(
    "ToolParserManager",
    "tool_parsers.abstract_tool_parser",
    "entrypoints.openai.tool_parsers.abstract_tool_parser",
)
# Before 0.23 the last delta of a stream is written anew where its first entry has arguments.
_REWRITES = not hasattr(_parsers.ToolParser, "get_remaining_unstreamed_args")


{source}


class _Template:
    lead, before_stop, stop = {lead}, {before_stop}, {stop}


def _new_stream():
    return DeltaStream(TurnStream({format}().stream(_Template.stop, False), _Template))


def _plain(request):
    """Whether calls are no part of the answer."""
    return request.tool_choice == "none" or not request.tools


class XlamToolParser(_parsers.ToolParser):
    """Words and arguments are sent as they come; what no format reads goes through as content."""

    engine_based_streaming = True  # so `finish_streaming` is called at the end
    supports_required_and_named = False  # or such answers are read as vLLM's own JSON

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stream = _new_stream()

    def adjust_request(self, request):
        """Demands calls by a grammar; marks of a call format may be special tokens, which are kept in the text."""
        if _plain(request):
            return super().adjust_request(request)
        if request.tool_choice in ("auto", None):
            request = super().adjust_request(request)
        else:
            _demand_calls(request)
        request.skip_special_tokens = False
        return request

    def extract_tool_calls(self, model_output, request):
        if _plain(request):
            return _openai.ExtractedToolCallInformation(tools_called=False, tool_calls=[], content=model_output)
        stream = _new_stream()
        words = stream.feed(model_output)[0] + stream.close()[0]
        calls = [
            _openai.ToolCall(
                id=_new_id(),
                type="function",
                function=_openai.FunctionCall(name=call.name, arguments=call.arguments),
            )
            for call in stream.calls
        ]
        return _openai.ExtractedToolCallInformation(
            tools_called=bool(calls), tool_calls=calls, content=words or None
        )

    def extract_tool_calls_streaming(
        self,
        previous_text,
        current_text,
        delta_text,
        previous_token_ids,
        current_token_ids,
        delta_token_ids,
        request,
    ):
        if _plain(request):
            return _openai.DeltaMessage(content=delta_text) if delta_text else None
        words, calls = self._stream.feed(delta_text)
        if _REWRITES and self._ends(current_token_ids, delta_token_ids, request):
            more, last = self._stream.close()
            words, calls = words + more, calls + last
        return self._message(words, calls)

    def finish_streaming(self):
        """What was held back in case a mark goes on."""
        return self._message(*self._stream.close())

    def get_remaining_unstreamed_args(self):
        return ""

    def _ends(self, current_token_ids, delta_token_ids, request):
        ids = [getattr(self.model_tokenizer, "get_vocab", dict)().get(_Template.stop)]
        ids.append(getattr(self.model_tokenizer, "eos_token_id", None))
        limit = getattr(request, "max_completion_tokens", None) or getattr(request, "max_tokens", None)
        return any(i in delta_token_ids for i in ids if i is not None) or (limit or 1e9) <= len(current_token_ids)

    def _message(self, words, calls):
        if not words and not calls:
            return None
        fields = {{"content": words}} if words else {{}}
        if calls:
            fields["tool_calls"] = self._entries(calls)
        return _openai.DeltaMessage(**fields)

    def _entries(self, calls):
        entries = []
        for call in calls:
            function, begins = {{}}, {{}}
            if call.name is not None:
                function["name"] = call.name
                begins = {{"id": _new_id(), "type": "function"}}
                self.prev_tool_call_arr.append({{"name": call.name, "arguments": {{}}}})
                self.streamed_args_for_tool.append("")
                self.current_tool_id = call.index
            if _REWRITES and not entries:
                entries.append(_entry(call.index, function, begins))
                function, begins = {{}}, {{}}
            entries.append(_entry(call.index, {{**function, "arguments": call.arguments}}, begins))
            self.streamed_args_for_tool[call.index] += call.arguments
            try:
                whole = json.loads(self.streamed_args_for_tool[call.index])
                self.prev_tool_call_arr[call.index]["arguments"] = whole
            except ValueError:
                pass
        return entries


def _entry(index, function, begins):
    return _openai.DeltaToolCall(index=index, function=_openai.DeltaFunctionCall(**function), **begins)


def _new_id():
    return "chatcmpl-tool-" + uuid.uuid4().hex


_CODEC = {settings}


def _demand_calls(request):
    """Makes the answer call a tool by the grammar of the call format, which llguidance reads."""
    if not hasattr(_parsers.ToolParser, "supports_required_and_named"):
        raise ValueError("tool_choice: {name} takes 'auto' and 'none' before vLLM 0.20")
    try:
        from xlam_jax.format import get_codec, normalise_tool
    except ImportError:
        what = "tool_choice: for 'required' and named tools {name} needs xlam-jax beside vLLM, which makes the grammar"
        raise ValueError(what + " (pip install xlam-jax); 'auto' works without") from None
    from vllm.sampling_params import StructuredOutputsParams

    tools = [tool.model_dump(exclude_none=True) for tool in request.tools]
    tools = [tool.get("function", tool) for tool in tools]
    choice, most = request.tool_choice, 1 if getattr(request, "parallel_tool_calls", None) is False else 10
    if choice != "required":
        name, most = getattr(getattr(choice, "function", choice), "name", None), 1
        tools = [tool for tool in tools if tool["name"] == name]
        if not tools:
            raise ValueError("tool_choice: no such tool " + repr(name))
    grammar = get_codec(**_CODEC).grammar([normalise_tool(tool) for tool in tools], 1, most)
    around = [json.dumps(text) if text else "" for text in (_Template.lead, _Template.before_stop)]
    # xgrammar would read this dialect otherwise than it is meant; at the directive it passes it on to llguidance.
    grammar = "%llguidance {{}}\\nstart: " + around[0] + " answer " + around[1] + "\\n" + grammar
    request.structured_outputs = StructuredOutputsParams(grammar=grammar)
    if hasattr(request, "response_format"):
        request.response_format = None


_parsers.ToolParserManager.register_module("{name}", module=XlamToolParser)
'''
