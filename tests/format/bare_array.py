"""A call format for tests of the codec: a bare JSON array of calls, and plain text where there are none."""

import json

from xlam_jax.format.call_formats import Answer, Piece


class BareArray:
    """What the codec is told by `reply`: an answer without calls may be plain text."""

    name = "bare-array"
    reply = True

    def render(self, calls, thought):
        if not calls and thought:
            return Piece(thought, ((0, len(thought), "thought"),))
        text, parts = "[", []
        for i, call in enumerate(calls):
            text += ', {"name": ' if i else '{"name": '
            name, arguments = (json.dumps(v, ensure_ascii=False) for v in (call.name, call.arguments))
            parts.append((len(text) + 1, len(text) + len(name) - 1, "name"))
            text += name + ', "arguments": '
            parts.append((len(text), len(text) + len(arguments), "arguments"))
            text += arguments + "}"
        return Piece(text + "]", tuple(parts))

    def parse(self, text, stop):
        return Answer(text.removesuffix(stop), ())

    def grammar(self, tools, min_calls, max_calls, with_thought):
        raise NotImplementedError

    def instructions(self, with_thought):
        return ("Call with a JSON array.", "Write the calls as a JSON array.")

    def jinja(self):
        return (
            "{%- macro answer(thought, calls) -%}"
            "{%- if not calls and thought -%}{{- thought -}}{%- else -%}{{- '[' -}}"
            "{%- for call in calls -%}"
            "{%- set call = call.function or call -%}"
            "{{- '{\"name\": ' ~ call.name|tojson ~ ', \"arguments\": ' ~ call.arguments|tojson ~ '}' -}}"
            "{%- if not loop.last -%}{{- ', ' -}}{%- endif -%}"
            "{%- endfor -%}{{- ']' -}}{%- endif -%}{%- endmacro -%}"
        )
