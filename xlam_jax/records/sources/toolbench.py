"""ToolBench answers: the winning chat of a depth-first search over calls.

An answer file is one search; its last list of `train_messages` is the chain that ended it. `Finish` is no
tool of anyone's: its `final_answer` becomes the reply of a last step without calls, and the tool is taken
from the list (lineage `finish_to_reply`). What the search told the model about branches it had tried before
("This is not the first time you try this task") is no turn of a user and is left out
(`retry_prompt_dropped`). Rows of instruction files have no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xlam_jax.format.record import Record, Step
from xlam_jax.records.sources.base import Refused, Row, Source, call, row_id, tools
from xlam_jax.records.sources.checked import checked
from xlam_jax.records.sources.rows import data_files, read_rows

FINISH = "Finish"
TOOL_FOLDER = "toolenv"


def rows(path: Path) -> Iterator[Row]:
    """Searches and instructions of a file or folder; `toolenv/` holds no queries (see `toolbench-tools`)."""
    for file in data_files(path):
        if TOOL_FOLDER not in file.relative_to(path).parts:
            yield from read_rows(file)


def convert(row: Row) -> Record:
    """One search.

    Refused: `no_answer`, `not_valid` (no chain was kept), `gave_up`, `no_finish`, `bad_role`.
    """
    obj = row.obj
    if "answer_generation" not in obj:
        raise Refused("no_answer")
    answer = obj["answer_generation"]
    if not answer.get("valid_data") or not answer.get("train_messages"):
        raise Refused("not_valid")
    if answer.get("finish_type") != "give_answer":
        raise Refused("gave_up", str(answer.get("finish_type")))
    chat = answer["train_messages"][-1]
    retried = sum(message["role"] == "user" for message in chat) > 1
    file = Path(row.where)
    return checked(
        Record(
            # The file's name is the query's number; a search out of some list has only its content.
            id=row_id(
                SOURCE.name, row, f"{file.parent.name}/{file.stem}" if file.suffix == ".json" else None
            ),
            query=answer["query"].strip(),
            tools=tools([_function(f) for f in answer["function"] if f["name"] != FINISH]),
            steps=_steps(chat),
            source=SOURCE.name,
            license=SOURCE.license,
            lineage=("finish_to_reply", "retry_prompt_dropped") if retried else ("finish_to_reply",),
        )
    )


def _function(function: dict[str, Any]) -> dict[str, Any]:
    """Without the list of optional names beside `required`, which is no keyword of JSON Schema."""
    parameters = {k: v for k, v in function.get("parameters", {}).items() if k != "optional"}
    return {**function, "parameters": parameters}


def _steps(chat: list[dict[str, Any]]) -> tuple[Step, ...]:
    steps: list[Step] = []
    thought = ""
    for message in chat:
        role = message["role"]
        if role == "function":
            if not steps:
                raise Refused("bad_role", "a result before any call")
            last = steps.pop()
            steps.append(Step(last.thought, last.tool_calls, message["content"]))
        elif role == "assistant":
            thought = "\n".join(filter(None, (thought, message.get("content"))))
            if not message.get("function_call"):
                continue
            made = call(message["function_call"])
            if made.name == FINISH:
                reply = made.arguments.get("final_answer")
                if made.arguments.get("return_type") != "give_answer" or not isinstance(reply, str):
                    raise Refused("gave_up", str(made.arguments)[:80])
                return (*steps, Step(reply))
            steps.append(Step(thought, (made,)))
            thought = ""
        elif role not in ("system", "user"):
            raise Refused("bad_role", str(role))
    raise Refused("no_finish")


SOURCE = Source(
    name="toolbench",
    summary="ToolBench answers (DFSDT searches); instructions without answers are refused",
    license="Apache-2.0",
    url="https://github.com/OpenBMB/ToolBench",
    convert=convert,
    rows=rows,
)
