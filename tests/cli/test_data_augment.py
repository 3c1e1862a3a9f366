"""`xlam data augment` as typed: a pool of other tools, and rates that the rows did not allow."""

import json

from xlam_jax.format.record import read_records

ALBUM = {
    "name": "get_album",
    "description": "Gets an album",
    "parameters": {"album": {"type": "str", "description": "which"}},
}
TRACK = {"name": "get_album_tracks", "description": "Gets the tracks of an album", "parameters": {}}
OTHERS = [
    {"name": "boil_pasta", "description": "Boils noodles", "parameters": {"minutes": {"type": "int"}}},
    {"name": "plough_field", "description": "Ploughs", "inputSchema": {"type": "object", "properties": {}}},
    {
        "type": "function",
        "function": {"name": "sue_neighbour", "description": "Goes to court", "parameters": {}},
    },
]


def test_a_single_toolset_gets_distractors_and_refusals_from_a_pool(tmp_path, xlam):
    rows = [
        {
            "id": str(i),
            "query": f"Show me record number {i} of Abba",
            "tools": [ALBUM, TRACK],
            "steps": [{"tool_calls": [{"name": "get_album", "arguments": {"album": f"Abba {i}"}}]}],
        }
        for i in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Files as people have them: a list in one file, a server with its tools, Records.
    (tmp_path / "list.json").write_text(json.dumps(OTHERS[:1]))
    (tmp_path / "servers.jsonl").write_text(json.dumps({"server": "farm", "tools": OTHERS[1:2]}) + "\n")
    (tmp_path / "records.jsonl").write_text(json.dumps({**rows[0], "tools": OTHERS[2:]}) + "\n")
    typed = ["--rate", "all=0", "--rate", "irrelevance=1"]
    got = xlam("data", "augment", tmp_path / "rows.jsonl", tmp_path / "a.jsonl", *typed)
    assert got.code == 0, got.err
    assert (
        "irrelevance was drawn on 20 copies and applied to 0: no_unrelated_tools 20; --pool FILE" in got.err
    )
    pools = [
        word
        for name in ("list.json", "servers.jsonl", "records.jsonl")
        for word in ("--pool", tmp_path / name)
    ]
    got = xlam("data", "augment", tmp_path / "rows.jsonl", tmp_path / "b.jsonl", *typed, *pools)
    assert got.code == 0 and "warning" not in got.err
    copies = [r for r in read_records(tmp_path / "b.jsonl") if "#" in r.id]
    assert len(copies) == 20 and not any(step.tool_calls for r in copies for step in r.steps)
    names = {tool.name for r in copies for tool in r.tools}
    # Neither the called tool nor the one that might stand in for it is left; all three files were drawn from.
    assert names == {"boil_pasta", "plough_field", "sue_neighbour"}
    typed = ["--rate", "all=0", "--rate", "add_distractors=1"]
    got = xlam("data", "augment", tmp_path / "rows.jsonl", tmp_path / "c.jsonl", *typed, *pools)
    assert got.code == 0 and sum("#" in r.id for r in read_records(tmp_path / "c.jsonl")) == 20
    for bad, said in (("nothing.jsonl", "not found"), ("empty.jsonl", "no tool in this pool")):
        (tmp_path / "empty.jsonl").write_text('{"a": 1}\n')
        got = xlam(
            "data", "augment", tmp_path / "rows.jsonl", tmp_path / "d.jsonl", *typed, "--pool", tmp_path / bad
        )
        assert got.code == 2 and said in got.err and bad in got.err
