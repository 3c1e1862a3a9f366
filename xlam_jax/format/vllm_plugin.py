"""The vLLM plug-in of a codec: one Python file that stands alone, made of the codec's own reader.

What vLLM runs is the code that the tests prove: the reader's source is taken from this package, and what it
does not use is left out. Served with `vllm serve DIR --enable-auto-tool-choice --tool-parser-plugin FILE
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
_TURN = "xlam_jax.format.turn_stream"


def parser_name(codec: Codec) -> str:
    """The name for `--tool-call-parser`."""
    return f"xlam-{codec.call_format}"


def vllm_plugin(codec: Codec) -> str:
    """The plug-in's text.

    Raises:
      InputError: the reader uses a name in two meanings, so that its parts cannot stand in one file.
    """
    cls = type(codec.format)
    bundle = _Bundle()
    bundle.add(cls.__module__, cls.__name__)
    bundle.add(_TURN, "TurnStream")
    bundle.add("xlam_jax.format.call_formats.base", "ParseError")
    imports, source = bundle.text()
    chat = {"lead": codec.chat.lead, "before_stop": codec.chat.before_stop, "stop": codec.chat.stop}
    return _FILE.format(
        name=parser_name(codec),
        version=__version__,
        codec=codec.name,
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
    imports: set[str] = field(default_factory=lambda: {"import json", "import uuid"})

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

Made by xlam-jax {version} (Apache-2.0); stands alone. Use:
  vllm serve MODEL --enable-auto-tool-choice --tool-parser-plugin THIS_FILE --tool-call-parser {name}
"""

from __future__ import annotations

{imports}

try:  # vLLM moved its protocol and its parsers into packages of their own
    from vllm.entrypoints.openai.engine import protocol as _openai
except ImportError:
    from vllm.entrypoints.openai import protocol as _openai
try:
    from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager
except ImportError:
    from vllm.entrypoints.openai.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager


{source}


class _Template:
    lead, before_stop, stop = {lead}, {before_stop}, {stop}


def _new_stream():
    return TurnStream({format}().stream(_Template.stop, False), _Template)


@ToolParserManager.register_module("{name}")
class XlamToolParser(ToolParser):
    """Calls are sent when they are complete; text that is no answer in the format goes through as content."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stop_id = getattr(self.model_tokenizer, "get_vocab", dict)().get(_Template.stop)
        self._start()

    def _start(self):
        self._stream, self._spoken, self._broken = _new_stream(), "", False
        # vLLM compares these two at the end of a stream, and sends what it finds missing.
        self.prev_tool_call_arr, self.streamed_args_for_tool, self.current_tool_id = [], [], -1

    def adjust_request(self, request):
        """Marks of a call format may be special tokens, which vLLM would leave out of the text."""
        request = super().adjust_request(request)
        request.skip_special_tokens = False
        return request

    def extract_tool_calls(self, model_output, request):
        stream = _new_stream()
        stream.feed(model_output)
        try:
            answer = stream.close()
        except ParseError:
            return _openai.ExtractedToolCallInformation(
                tools_called=False, tool_calls=[], content=model_output
            )
        calls = [
            _openai.ToolCall(
                id="chatcmpl-tool-" + uuid.uuid4().hex,
                type="function",
                function=_openai.FunctionCall(name=call.name, arguments=_arguments(call)),
            )
            for call in answer.tool_calls
        ]
        return _openai.ExtractedToolCallInformation(
            tools_called=bool(calls), tool_calls=calls, content=answer.thought or None
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
        if not previous_text:
            self._start()
        if self._broken:
            passes = delta_text and not self.prev_tool_call_arr
            return _openai.DeltaMessage(content=delta_text) if passes else None
        calls = self._stream.feed(delta_text)
        # The stop token may have no text; what is held back in case a mark goes on is due with it.
        if self._stop_id is not None and self._stop_id in delta_token_ids:
            try:
                calls = calls + list(self._stream.close().tool_calls[len(self.prev_tool_call_arr) + len(calls):])
            except ParseError:
                pass
        words = self._stream.words()
        if self._stream.broken:
            self._broken = True
            if not self.prev_tool_call_arr and not calls:
                # What no format reads is what the model said, from where it was last shown.
                said = self._spoken + words
                at = current_text.find(said)
                words += current_text[at + len(said):] if said and at >= 0 else ""
                words = words if said else current_text
        deltas = []
        for call in calls:
            self.current_tool_id += 1
            self.prev_tool_call_arr.append({{"name": call.name, "arguments": call.arguments}})
            self.streamed_args_for_tool.append(_arguments(call))
            deltas.append(
                _openai.DeltaToolCall(
                    index=self.current_tool_id,
                    id="chatcmpl-tool-" + uuid.uuid4().hex,
                    type="function",
                    function=_openai.DeltaFunctionCall(name=call.name, arguments=_arguments(call)),
                )
            )
        self._spoken += words
        if not words and not deltas:
            return None
        fields = {{"content": words}} if words else {{}}
        return _openai.DeltaMessage(**fields, **({{"tool_calls": deltas}} if deltas else {{}}))


def _arguments(call):
    return json.dumps(call.arguments, ensure_ascii=False)
'''
