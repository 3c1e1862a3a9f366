"""`xlam call`: one question, its tool calls, and on request their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xlam_jax.cli.common import JsonOption, err, need_dir, need_file, out, print_table, working, write_json
from xlam_jax.errors import InputError, WorkError

if TYPE_CHECKING:
    from xlam_jax.format import Tool, ToolCall

_EXAMPLE = (
    'Example: xlam call "What is the greatest common divisor of 5124 and 1908?" '
    "--tools configs/demo/tools.json --model runs/demo/model --constrained --max-calls 1 --execute"
)


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLE)(call)


def call(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the user says.")],
    tools: Annotated[Path, typer.Option(metavar="FILE", help="JSON list of tools, in any common spelling.")],
    model: Annotated[Path, typer.Option(metavar="DIR", help="Folder of a model.")],
    constrained: Annotated[
        bool,
        typer.Option(
            "--constrained/--free", help="Demand at least one valid call by grammar, or let the model write."
        ),
    ] = False,
    max_calls: Annotated[int, typer.Option(min=1, help="Most calls of a constrained answer.")] = 10,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus to draw from.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    max_len: Annotated[int, typer.Option(min=2, help="Prompt and answer together, in tokens.")] = 4096,
    execute: Annotated[
        bool, typer.Option("--execute", help="Run calls of standard-library tools in the sandbox.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also print the model's text as it is.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Asks a model which tools to call, and with which arguments."""
    need_dir(model, "model folder")
    offered = read_tools(tools)
    from xlam_jax.format import ParseError, Record
    from xlam_jax.format.call_formats.value_rules import unsaid
    from xlam_jax.inference import Engine

    engine = Engine.from_folder(model, max_len=max_len, batch_size=1)
    codec = engine.codec
    grammar = codec.grammar(offered, 1, max_calls) if constrained else None
    missed = unsaid(grammar or "")
    for line in missed:
        err.print(f"the grammar does not hold {line}", markup=False, highlight=False)
    prompt = codec.prompt(Record(id="call", query=query, tools=offered, steps=()))
    with working("thinking"):
        (generation,) = engine.generate(
            [prompt],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            grammars=[grammar] if constrained else None,
        )
    if not generation.token_ids:
        raise InputError(
            f"the prompt has {generation.prompt_tokens} tokens, {engine.max_len} are the limit",
            hint="fewer tools, or --max-len up to what the model was made for",
        )
    result: dict[str, Any] = {
        "query": query,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "prompt_tokens": generation.prompt_tokens,
        "new_tokens": len(generation.token_ids),
        "seconds": round(generation.seconds, 3),
        "thought": "",
        "calls": None,
        "results": None,
        "unsaid": missed,
    }
    if raw:
        out.print("raw text", style="dim")
        out.print(generation.text, highlight=False)
    cut_off = generation.finish_reason == "length"
    try:
        answer = codec.parse(generation.text)
        if cut_off and not answer.tool_calls:  # words that may have been about to become a call
            raise ParseError("words, and no call so far")
    except ParseError as e:
        write_json(json_file, result)
        cut = f" (cut off after {len(generation.token_ids)} tokens)" if cut_off else ""
        hint = "--max-new-tokens" if cut_off else "--constrained makes the text follow the tools' grammar"
        raise WorkError(
            f"the model's text is no tool call{cut}: {e.what}\n{generation.text}",
            where=f"model {model}",
            hint=hint,
        ) from e
    result |= {"thought": answer.thought, "calls": [_as_dict(c) for c in answer.tool_calls]}
    if answer.thought:
        out.print(answer.thought, style="italic")
    out.print_json(json.dumps(result["calls"], ensure_ascii=False), indent=2)
    if not answer.tool_calls:
        out.print("no call: the model found no tool that fits", style="dim")
    if execute:
        result["results"] = _execute(answer.tool_calls)
        if result["results"]:
            print_table("results", result["results"])
    write_json(json_file, result)
    if failed := [r for r in result["results"] or [] if r["status"] != "ok"]:
        raise WorkError(f"{failed[0]['call']}: {failed[0]['status']}", where=str(failed[0]["value"]))


def read_tools(path: Path) -> tuple[Tool, ...]:
    """Tools of a JSON file: a list, or one tool.

    Raises:
      InputError: not JSON, no tools, or a tool that cannot be read.
    """
    from xlam_jax.format import normalise_tool

    try:
        content = json.loads(need_file(path, "tools file").read_text(encoding="utf-8"))
    except ValueError as e:
        raise InputError(f"not valid JSON: {e}", where=str(path)) from e
    items = content if isinstance(content, list) else [content]
    if not items:
        raise InputError("the file holds no tools", where=str(path))
    try:
        return tuple(normalise_tool(item) for item in items)
    except InputError as e:
        raise InputError(e.what, where=f"{path}: {e.where}" if e.where else str(path), hint=e.hint) from e


def _as_dict(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _execute(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    """Results of calls to the standard-library tools; other tools are not ours to run."""
    from xlam_jax.apigen.library import load_library
    from xlam_jax.apigen.sandbox import Limits, run_calls

    targets = {f.tool.name: f.target for f in load_library()}
    known = [i for i, call in enumerate(calls) if call.name in targets]
    outcomes = run_calls([(targets[calls[i].name], calls[i].arguments) for i in known], Limits())
    by_call = dict(zip(known, outcomes, strict=True))
    rows = []
    for i, call in enumerate(calls):
        shown = f"{call.name}({', '.join(f'{k}={v!r}' for k, v in call.arguments.items())})"
        outcome = by_call.get(i)
        if outcome is None:
            rows.append({"call": shown, "status": "not in the library", "value": None, "seconds": None})
        else:
            value = outcome.value if outcome.status == "ok" else outcome.error
            rows.append({"call": shown, "status": outcome.status, "value": value, "seconds": outcome.seconds})
    return rows
