"""ToolBench searches -> Records, and its RapidAPI tools."""

import json

from tests.records.native_data import converted, converted_tools, folder, outcomes
from xlam_jax.format import Tool, ToolCall
from xlam_jax.format.record import Step

FUNCTIONS = [
    {
        "name": "track_for_post",
        "description": "Tracks.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "lang": {"type": "string"}},
            "required": ["number"],
            "optional": ["lang"],
        },
    },
    {"name": "Finish", "parameters": {"type": "object", "properties": {"return_type": {"type": "string"}}}},
]


def assistant(name, arguments, content=None):
    function_call = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": content, "function_call": function_call}


def search(*chat, **answer):
    head = [
        {"role": "system", "content": "You are AutoGPT."},
        {"role": "user", "content": "\nTrack 7.\nBegin!\n"},
    ]
    generation = {
        "valid_data": True,
        "finish_type": "give_answer",
        "function": FUNCTIONS,
        "query": "Track 7.",
        "train_messages": [[], [*head, *chat]],
        **answer,
    }
    return {"win": True, "tree": {}, "answer_generation": generation}


CALL = assistant("track_for_post", {"number": "7"}, "I track it.")
RESULT = {"role": "function", "name": "track_for_post", "content": '{"error": "", "response": "on its way"}'}
GIVE = assistant("Finish", {"return_type": "give_answer", "final_answer": "On its way."})
GIVE_UP = assistant("Finish", {"return_type": "give_up_and_restart"})


def write(root, **files):
    for name, value in files.items():
        (root / f"{name}.json").write_text(json.dumps(value))
    return root


def test_the_winning_chain_becomes_steps_and_finish_the_reply(tmp_path):
    retry = {"role": "user", "content": "This is not the first time you try this task.", "valid": False}
    chat = [CALL, RESULT, retry, {"role": "assistant", "content": "So."}, CALL, RESULT, GIVE]
    (record,) = outcomes("toolbench", write(tmp_path, **{"7_DFS": search(*chat)}))
    assert (record.id, record.query) == (f"toolbench-{tmp_path.name}/7_DFS", "Track 7.")
    properties = {"number": {"type": "string"}, "lang": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["number"]}
    assert record.tools == (Tool("track_for_post", "Tracks.", schema),)
    calls = (ToolCall("track_for_post", {"number": "7"}),)
    assert record.steps == (
        Step("I track it.", calls, RESULT["content"]),
        Step("So.\nI track it.", calls, RESULT["content"]),
        Step("On its way."),
    )
    assert record.lineage == ("finish_to_reply", "retry_prompt_dropped")


def test_refusals(tmp_path):
    write(
        tmp_path,
        a=search(CALL, RESULT, GIVE, valid_data=False),
        b=search(CALL, RESULT, GIVE_UP, finish_type="give_up"),
        c=search(CALL, RESULT, GIVE_UP),
        d=search(CALL, RESULT),
        e=[{"query": "Track 7.", "query_id": 1, "api_list": []}],
        f=search(RESULT, GIVE),
    )
    codes = ["not_valid", "gave_up", "gave_up", "no_finish", "no_answer", "bad_role"]
    assert outcomes("toolbench", tmp_path) == codes


def test_tools_of_documents_and_of_instructions(tmp_path):
    api = {
        "name": "/Get Track/:id",
        "description": "Tracks.",
        "method": "GET",
        "required_parameters": [{"name": "id", "type": "STRING", "description": "Its id", "default": ""}],
        "optional_parameters": [
            {"name": "n", "type": "NUMBER", "description": "How many", "default": "5"},
            {"name": "day", "type": "DATE (YYYY-MM-DD)", "default": "2020-01-01"},
        ],
    }
    listed = {
        "category_name": "Mail",
        "tool_name": "Post Office",
        "api_name": "Ping",
        "required_parameters": [],
    }
    bare = {"category_name": "Mail", "tool_name": "Post Office", "api_name": "Pong"}
    document = {"tool_name": "Post Office", "api_list": [api]}
    (tmp_path / "Logistics").mkdir()
    write(tmp_path / "Logistics", post=document)
    write(tmp_path, queries=[{"query": "q", "api_list": [listed, bare]}])
    first, second, refused = outcomes("toolbench-tools", tmp_path)
    assert first == {
        "id": "toolbench-tools-Post Office/get_track_id_for_post_office",
        "name": "get_track_id_for_post_office",
        "description": "Tracks.",
        "parameters": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "Its id"},
                "n": {"type": "number", "description": "How many"},
                "day": {"type": "string", "default": "2020-01-01"},
            },
            "required": ["id"],
        },
        "namespace": "Post Office",
        "category": "Logistics",
        "method": "GET",
        "source": "toolbench-tools",
        "license": "Apache-2.0",
    }
    assert (second["name"], second["category"], refused) == ("ping_for_post_office", "Mail", "no_parameters")


def test_published_files(tmp_path):
    root = folder("tool_bench")
    summary, records = converted("toolbench", root, tmp_path)
    answers = len(list((root / "answer").rglob("*.json")))
    queries = sum(len(json.loads(p.read_text("utf-8"))) for p in (root / "instruction").glob("*.json"))
    assert summary["rows"] == answers + queries == 15 + 12
    assert summary["reasons"] == {"no_answer": 12, "gave_up": 4, "not_valid": 2}
    # One call is of a tool that the model made up.
    assert (summary["calls"], summary["valid"]) == (26, 25)
    assert all(not r.steps[-1].tool_calls and r.steps[-1].thought for r in records)
    assert all(tool.name != "Finish" for r in records for tool in r.tools)


def test_published_tools(tmp_path):
    root = folder("tool_bench")
    summary, tools = converted_tools("toolbench-tools", root, tmp_path)
    queries = [q for p in (root / "instruction").glob("*.json") for q in json.loads(p.read_text("utf-8"))]
    assert summary["rows"] == sum(len(q.get("api_list", ())) for q in queries) == 64
    assert summary["reasons"] == {"no_parameters": 3} and len(tools) == 61
