"""What released xLAM checkpoints expect to read, to the letter.

Sources: the client of the xLAM repository (`xlam-1-r`), the model cards of the fc-r models (`xlam-1-fc-r`),
and the chat templates published with the xLAM-2 checkpoints. The wordings are theirs, down to trailing
blanks, because the checkpoints have seen no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from xlam_jax.errors import InputError, unknown
from xlam_jax.format.codec import Codec, get_codec
from xlam_jax.format.record import Record

_R_TASK = (
    "Based on the previous context and API request history, generate an API request or a response as an "
    "AI assistant."
)
_R_FORMAT = (
    "The output should be of the JSON format, which specifies a list of generated function calls. The "
    "example format is as follows, please make sure the parameter type is correct. If no function call is "
    "needed, please make \n"
    '    tool_calls an empty list "[]".\n'
    "    ```\n"
    '    {"thought": "the thought process, or an empty string", "tool_calls": [{"name": "api_name1", '
    '"arguments": {"argument1": "value1", "argument2": "value2"}}]}\n'
    "    ```"
)
_FC_TASK = (
    "You are an expert in composing functions. You are given a question and a set of possible functions. \n"
    "Based on the question, you will need to make one or more function/tool calls to achieve the purpose. \n"
    "If none of the functions can be used, point it out and refuse to answer. \n"
    "If the given question lacks the parameters required by the function, also point it out."
)
_FC_FORMAT = (
    "The output MUST strictly adhere to the following JSON format, and NO other text MUST be included.\n"
    "The example format is as follows. Please make sure the parameter type is correct. If no function call "
    "is needed, please make tool_calls an empty list '[]'.\n"
    "```\n"
    "{\n"
    '    "tool_calls": [\n'
    '    {"name": "func_name1", "arguments": {"argument1": "value1", "argument2": "value2"}},\n'
    "    ... (more tool calls as required)\n"
    "    ]\n"
    "}\n"
    "```"
)
_XLAM_2_TASK = "You are a helpful assistant. You are developed by Salesforce xLAM team."
_XLAM_2_FORMAT = (
    "You have access to a set of tools. When using tools, make calls in a single JSON array: \n\n"
    '[{"name": "tool_call_name", "arguments": {"arg1": "value1", "arg2": "value2"}}, '
    "... (additional parallel tool calls as needed)]\n\n"
    "If no tool is suitable, state that explicitly. If the user's input lacks required parameters, ask for "
    "clarification. Do not interpret or respond until tool results are returned. Once they are available, "
    "process them or make additional calls if needed. For tasks that don't require tools, such as casual "
    "conversation or general advice, respond directly in plain text. The available tools are:"
)


@dataclass(frozen=True)
class Preset:
    """One family of checkpoints: its codec's choices, and the models that expect them.

    Attributes:
      models: names on the Hugging Face hub.
    """

    name: str
    call_format: str
    template: str
    layout: str
    thought: bool
    task_instruction: str
    format_instruction: str
    models: tuple[str, ...]

    @property
    def codec(self) -> Codec:
        """The codec; a record's own task and format instruction take the place of the preset's."""
        return get_codec(
            self.call_format,
            self.template,
            self.layout,
            self.thought,
            task_instruction=self.task_instruction,
            format_instruction=self.format_instruction,
            history=self.layout == "xlam-1",
        )

    def history_prompt(self, record: Record, step: int = 0) -> str:
        """The prompt of step `step` as xLAM-1's client writes it: one user turn that holds the history.

        Raises:
          InputError: a preset of xLAM-2, whose history is turns, or fewer than `step` steps come before.
        """
        if not self.codec.history:
            raise InputError(f"preset {self.name!r} writes its history as turns", hint="use codec.prompt")
        return self.codec.prompt(record, step)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "xlam-1-r",
            "xlam-json",
            "mistral-v1",
            "xlam-1",
            True,
            _R_TASK,
            _R_FORMAT,
            ("Salesforce/xLAM-7b-r", "Salesforce/xLAM-8x7b-r", "Salesforce/xLAM-8x22b-r"),
        ),
        Preset(
            "xlam-1-fc-r",
            "xlam-json",
            "deepseek-coder",
            "xlam-1",
            False,
            _FC_TASK,
            _FC_FORMAT,
            ("Salesforce/xLAM-1b-fc-r", "Salesforce/xLAM-7b-fc-r"),
        ),
        Preset(
            "xlam-2-llama",
            "json-array",
            "llama-3",
            "xlam-2",
            False,
            _XLAM_2_TASK,
            _XLAM_2_FORMAT,
            ("Salesforce/Llama-xLAM-2-8b-fc-r", "Salesforce/Llama-xLAM-2-70b-fc-r"),
        ),
        Preset(
            "xlam-2-qwen",
            "json-array",
            "chatml",
            "xlam-2",
            False,
            _XLAM_2_TASK,
            _XLAM_2_FORMAT,
            ("Salesforce/xLAM-2-1b-fc-r", "Salesforce/xLAM-2-3b-fc-r", "Salesforce/xLAM-2-32b-fc-r"),
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
      InputError: unknown name; the hint is the nearest known one.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
