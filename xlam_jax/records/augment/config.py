"""What to augment, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field

from xlam_jax.config import Config
from xlam_jax.format.presets import get_preset

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Weights = dict[str, Annotated[float, Field(gt=0.0)]]


class Rates(Config):
    """Probability of each transform on each copy, in the order in which they are tried.

    The xLAM paper (arXiv 2409.03215, 3.2) names the kinds without numbers; Hammer's (arXiv 2410.04587) are
    masking 2/3 and about 10 % irrelevance. The two `rephrase_` ones need `AugmentConfig.rephrase`.

    Attributes:
      rephrase_query: another wording of the question, by a model.
      rephrase_task: another wording of the task instruction, by a model.
      add_distractors: unrelated tools of the pool are added.
      irrelevance: the called tools are replaced by others, and the answer is a refusal.
      remove_tool: the called tools are taken away, and the answer is a refusal.
      remove_argument: a required value is taken out of the question, and the answer asks for it.
      mask_functions: functions get names that say nothing.
      mask_parameters: parameters get names that say nothing.
      move_defaults: defaults become a sentence of the description.
      shuffle_tools: another order of the tools.
      shuffle_parameters: another order of the parameters.
      shuffle_tool_fields: another order of the fields inside every parameter.
      shuffle_tool_calls: another order of calls that do not depend on each other.
      layout: another way of marking the sections.
      shuffle_sections: another order of the sections.
      call_format: another format of calls, with its instruction.
      task_instruction: another of our own task instructions.
    """

    rephrase_query: Rate = 0.0
    rephrase_task: Rate = 0.0
    add_distractors: Rate = 0.2
    irrelevance: Rate = 0.1
    remove_tool: Rate = 0.05
    remove_argument: Rate = 0.05
    mask_functions: Rate = 0.3
    mask_parameters: Rate = 0.3
    move_defaults: Rate = 0.3
    shuffle_tools: Rate = 0.5
    shuffle_parameters: Rate = 0.5
    shuffle_tool_fields: Rate = 0.3
    shuffle_tool_calls: Rate = 0.5
    layout: Rate = 0.5
    shuffle_sections: Rate = 0.3
    call_format: Rate = 0.5
    task_instruction: Rate = 0.5


class RephraseConfig(Config):
    """The model that rewrites texts and then answers them; any OpenAI-compatible endpoint.

    Attributes:
      cache: file of answers, so that a second run asks nothing twice.
      temperature: of the rewriting; answers are always asked for at 0.
      task_wordings: how many rewrites of one task instruction are asked for.
      base_url: of the endpoint, such as `http://localhost:8000/v1`.
      model: its name there.
      api_key_env: variable that holds the key.
      max_tokens: longest answer.
      concurrency: requests at a time.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    cache: Path | None = None
    temperature: Annotated[float, Field(ge=0.0)] = 0.7
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    concurrency: Annotated[int, Field(ge=1)] = 8
    task_wordings: Annotated[int, Field(ge=1)] = 8


class AugmentConfig(Config):
    """Settings of one run.

    Attributes:
      copies: augmented copies of every row, beside the original.
      keep_original: write the original too, unchanged.
      rates: probability of each transform.
      layouts, call_formats: relative weights of the names to choose from; empty: all, alike.
      base_layout, base_call_format, thought: the codec the data will be built with. A style is written out
        against them, since an order of sections is legal for a layout and an instruction right for a format.
      preset: the released family whose codec that is (a key of `PRESETS`), in place of the three.
      max_distractors: at most so many tools are added.
      pool: files of other tools (Records, or tools as `xlam data convert mcp` writes them) to draw from beside
        those of the input; a set of few tools gets neither distractors nor refusals without them.
      pool_size: tools kept from the first pass over the input, to draw other tools from.
      refusal_text: whether a row that loses its tools answers with a refusal, or with no words at all.
      rephrase: the model for the two `rephrase_` transforms.
      seed: decides every draw.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    copies: Annotated[int, Field(ge=0)] = 1
    keep_original: bool = True
    rates: Rates = Rates()
    layouts: Weights = Field(default_factory=dict)
    call_formats: Weights = Field(default_factory=dict)
    base_layout: str = "brackets"
    base_call_format: str = "xlam-json"
    thought: bool = False
    preset: str = ""
    max_distractors: Annotated[int, Field(ge=1)] = 4
    pool: tuple[Path, ...] = ()
    pool_size: Annotated[int, Field(ge=0)] = 1000
    refusal_text: bool = True
    rephrase: RephraseConfig | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _of_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("preset"):
            return values
        preset = get_preset(str(values["preset"]))
        theirs = {
            "base_layout": preset.layout,
            "base_call_format": preset.call_format,
            "thought": preset.thought,
        }
        if others := sorted(k for k, v in theirs.items() if k in values and values[k] != v):
            raise ValueError(f"a preset leaves no choice of {', '.join(others)}")
        return {**values, **theirs}
