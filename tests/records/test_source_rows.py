"""Files of every kind give the same rows; hostile ones are named, never half-read in silence."""

import gzip
import json
import subprocess
import sys

import pytest

from xlam_jax.errors import InputError
from xlam_jax.records.engine import LocalEngine
from xlam_jax.records.sources.convert import convert
from xlam_jax.records.sources.rows import read_rows

VALUES = [{"id": i, "text": "é\u2028" * i, "n": [1, 2.5, None, True]} for i in range(5)]
BOM = b"\xef\xbb\xbf"


def as_lines(values, newline="\n"):
    return newline.join(json.dumps(v, ensure_ascii=False) for v in values).encode()


def parquet(values):
    pyarrow = pytest.importorskip("pyarrow")
    sink = pyarrow.BufferOutputStream()
    pytest.importorskip("pyarrow.parquet").write_table(
        pyarrow.Table.from_pylist(values), sink, row_group_size=2
    )
    return sink.getvalue().to_pybytes()


KINDS = {
    "a.jsonl": as_lines(VALUES),
    "b.jsonl": as_lines(VALUES, "\r\n") + b"\r\n\r\n",
    "c.jsonl": BOM + as_lines(VALUES),
    "d.ndjson": as_lines(VALUES, "\n\n"),
    "e.json": json.dumps(VALUES).encode(),
    "f.json": b" \n\n" + json.dumps(VALUES, indent=2, ensure_ascii=False).encode() + b"\n \n",
    "g.json": BOM + json.dumps(VALUES).encode(),
    "h.json": as_lines(VALUES),
    "i.json": BOM + b"\n" + as_lines(VALUES),
    "j.jsonl.gz": gzip.compress(as_lines(VALUES)),
    "k.json.gz": gzip.compress(BOM + json.dumps(VALUES).encode()),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_files_hold_the_same_rows(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name])
    assert [row.value for row in read_rows(tmp_path / name)] == VALUES


@pytest.mark.parametrize("packed", [False, True])
def test_parquet(tmp_path, packed):
    data = [{"id": v["id"], "text": v["text"]} for v in VALUES]
    file = tmp_path / ("a.parquet.gz" if packed else "a.parquet")
    file.write_bytes(gzip.compress(parquet(data)) if packed else parquet(data))
    assert [row.value for row in read_rows(file)] == data


def test_folders_are_read_in_order_and_other_files_left(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.jsonl").write_bytes(as_lines(VALUES[3:]))
    (tmp_path / "a.json").write_bytes(json.dumps(VALUES[:3]).encode())
    (tmp_path / "README.md").write_text("# no rows")
    assert [row.value for row in read_rows(tmp_path)] == VALUES
    (tmp_path / "empty").mkdir()
    for path, what in [
        ("empty", "no data file"),
        ("none", "not found"),
        ("README.md", "not a file this reads"),
    ]:
        with pytest.raises(InputError, match=what):
            list(read_rows(tmp_path / path))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("[]", []),
        ("[ ]", []),
        ("{}", [{}]),
        ('{"a": {"b": 1}}', [{"a": {"b": 1}}]),
        ('{"a":\n1}', [{"a": 1}]),
        ('{"a": 1}\n', [{"a": 1}]),
        ('{"a": 1}\n\n{"b": 2}', [{"a": 1}, {"b": 2}]),
        ('{"a": "' + "x" * 9000 + '"}\n{"b": 2}', [{"a": "x" * 9000}, {"b": 2}]),
        ("[123456789012345678901234567890, -0.0, 1E5, 12]", [123456789012345678901234567890, -0.0, 1e5, 12]),
        ('["\\ud83d\\ude00", "\\u00e9", [[]], {}]', ["😀", "é", [[]], {}]),
    ],
)
def test_json_files(tmp_path, text, values):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        text if text.count("{") != 1 else text.replace("\n", ""), encoding="utf-8"
    )
    assert [row.value for row in read_rows(tmp_path / "a.json")] == values
    if not text.startswith("["):
        assert [row.value for row in read_rows(tmp_path / "a.jsonl")] == values


@pytest.mark.parametrize("size", [65534, 65535, 65536, 65537, 131072, 3_000_000])
def test_items_across_the_edge_of_the_buffer(tmp_path, size):
    values = ["x" * (size - 4), 1234567, {"é" * 9: [True, None]}, 2.5e-7, "\\" * 5, "y" * size, False]
    (tmp_path / "a.json").write_text(json.dumps(values, ensure_ascii=False))
    assert [row.value for row in read_rows(tmp_path / "a.json")] == values
    (tmp_path / "b.json").write_text(json.dumps(values))
    assert [row.value for row in read_rows(tmp_path / "b.json")] == values


BROKEN = {
    "cut.json": b'[{"a": 1}, {"a": 2',
    "comma.json": b'[{"a": 1} {"a": 2}]',
    "after.json": b'[{"a": 1}] x',
    "utf8.json": b'[{"a": "\xff"}]',
    "deep.json": b"[" + b"[" * 200_000,
    "early.json": b'[{"a": 1}, {"b": oops}, ' + b" " * 300_000 + b"1]",
    "cut.jsonl.gz": gzip.compress(as_lines(VALUES * 500))[:-200],
    "bad.jsonl.gz": gzip.compress(as_lines(VALUES * 500))[:200] + b"\x00" * 400,
    "no.jsonl.gz": b"plain text",
    "cut.json.gz": gzip.compress(json.dumps(VALUES * 500).encode())[:-200],
    "no.json.gz": b"plain text",
    "empty.parquet": b"",
    "no.parquet": b"PAR1" + b"\x00" * 100 + b"PAR1",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_an_error_that_names_them(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(InputError) as error:
        list(read_rows(tmp_path / name))
    assert name in error.value.where
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError):
        convert("xlam-60k", tmp_path / name, out, engine=LocalEngine(1))
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_cut_parquet(tmp_path):
    data = parquet([{"id": i, "text": str(i) * 50} for i in range(3000)])
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not valid Parquet"):
        list(read_rows(tmp_path / "a.parquet"))


def test_bad_lines_are_refused_one_by_one(tmp_path):
    good = as_lines([{"query": "Hi", "answers": "[]", "tools": "[]"}])
    lines = [
        good,
        b'{"query": "\xff"}',
        b"{",
        b"[" * 100_000,
        b"\x00",
        b'{"query": "' + b"x" * 20_000_000 + b'", "answers": []}',
        good,
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    result = convert("xlam-60k", tmp_path / "in.jsonl", tmp_path / "out.jsonl", engine=LocalEngine(1))
    assert (result["rows"], result["out"]) == (7, 3)
    assert result["reasons"] == {"bad_json": 3, "bad_utf8": 1}


CONVERT_A_MILLION = """
import re, sys, time
from pathlib import Path
from xlam_jax.records.sources.convert import convert
start = time.time()
result = convert(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
# Not ru_maxrss, in which the process that started this one still counts.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
numbers = [result[key] for key in ("rows", "out", "calls", "valid")]
print(*numbers, round(peak), round(time.time() - start, 1))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process's own peak of memory")
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json.gz"])
def test_a_million_rows_take_less_than_a_gigabyte(tmp_path, name, capsys):
    tool = {"name": "add", "description": "Adds.", "parameters": {"a": {"type": "int"}, "b": {"type": "int"}}}

    def row(i):
        answers = json.dumps([{"name": "add", "arguments": {"a": i, "b": 2}}])
        return json.dumps(
            {"id": i, "query": f"What is {i} + 2?", "answers": answers, "tools": json.dumps([tool])}
        )

    n, file = 1_000_000, tmp_path / name
    with gzip.open(file, "wt", 1) if name.endswith(".gz") else file.open("w") as out:
        listed = ".json." in name
        out.write("[" if listed else "")
        for i in range(n):
            out.write(("," if listed and i else "") + row(i) + "\n")
        out.write("]" if listed else "")
    args = [sys.executable, "-c", CONVERT_A_MILLION, "xlam-60k", str(file), str(tmp_path / "out.jsonl")]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    rows, kept, calls, valid, peak, seconds = map(float, done.stdout.split())
    with capsys.disabled():
        print(
            f"\n{name}: {rows:,.0f} rows, peak {peak:.0f} MB, {seconds:.0f} s, {rows / seconds:,.0f} rows/s"
        )
    assert rows == kept == calls == valid == n
    assert peak < 1024
