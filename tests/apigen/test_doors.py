"""Tools of one's own, from their files to verified rows, as a newcomer types it."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.apigen.scripted import scripted
from tests.apigen.test_sandbox import require_walls
from tests.records.chat_server import ChatServer
from xlam_jax.apigen.api import Api, Refusal, read_library, split_of
from xlam_jax.apigen.ask import read_pairs
from xlam_jax.apigen.doors import open_door
from xlam_jax.apigen.executors import Executors, RestConfig
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.apigen.semantic import verdict
from xlam_jax.cli.main import app
from xlam_jax.errors import InputError, XlamError
from xlam_jax.format.record import read_records

SHOP = Path(__file__).with_name("shop.py")
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "orders", "license": {"name": "MIT"}},
    "servers": [{"url": "https://shop.example/v1"}],
    "paths": {
        "/orders/{number}": {
            "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {
                "operationId": "get_order",
                "summary": "One order.",
                "tags": ["orders"],
                "parameters": [
                    {
                        "name": "fields",
                        "in": "query",
                        "schema": {"type": "array", "items": {"type": "string"}},
                    },
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {"content": {"application/json": {"example": {"number": 7, "state": "sent"}}}}
                },
            },
        },
        "/orders": {
            "post": {
                "operationId": "create_order",
                "description": "Orders something.",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["item"],
                                "properties": {
                                    "item": {"type": "string"},
                                    "count": {"type": "integer", "minimum": 1},
                                },
                            }
                        }
                    }
                },
            },
            "get": {"operationId": "list_orders", "summary": "All orders."},
        },
        "/tags": {
            "put": {
                "operationId": "set_tags",
                "summary": "Replaces the tags.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"type": "array", "items": {"type": "string"}}}
                    },
                },
            }
        },
    },
}
MCP = {
    "jsonrpc": "2.0",
    "result": {
        "tools": [
            {
                "name": "now",
                "description": "The time in a place.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"zone": {"type": "string"}},
                    "required": ["zone"],
                },
            },
            {"name": "ping", "description": "Nothing.", "inputSchema": {"type": "object", "properties": {}}},
        ]
    },
}


@pytest.fixture(scope="module")
def box():
    require_walls()
    with Sandbox(Limits(seconds=1.0)) as sandbox:
        yield sandbox


def invoke(*words, code=0):
    """Output of a command and the message of an error, whose exit status the command's rim takes from it."""
    result = CliRunner().invoke(app, [str(w) for w in words])
    error = result.exception if isinstance(result.exception, XlamError) else None
    assert (error.exit_code if error else result.exit_code) == code, result.output + repr(result.exception)
    return result.output + (f"\n{error}" if error else "")


def halves(found):
    found = list(found)
    return {a.tool.name: a for a in found if isinstance(a, Api)}, {
        r.id: r.reason for r in found if isinstance(r, Refusal)
    }


def test_a_python_file_by_its_hints_docstrings_and_doctests(box):
    apis, refused = halves(open_door(f"python={SHOP}", box))
    assert list(apis) == ["price", "total", "ship", "wait", "catalogue"]
    assert refused == {
        "shop/check_out": "not_json", "shop/paint": "not_json", "shop/opening_hours": "no_parameters",
        "shop/undescribed": "no_description", "shop/later": "not_called_by_name", "shop/anything": "no_parameters",
        "shop/at": "not_called_by_name",
    }  # fmt: skip
    price = apis["price"].tool.parameters
    assert price["properties"]["item"] == {"type": "string", "description": "What is bought."}
    assert price["properties"]["currency"]["enum"] == ["EUR", "USD"]
    assert price["required"] == ["item"]
    # The doctest that raises is no example of how to call it.
    assert apis["price"].examples == ({"item": "tea"}, {"item": "mug", "currency": "USD"})
    assert apis["total"].examples == ({"prices": [1, 2.5]},)
    assert apis["total"].tool.parameters["properties"]["prices"]["items"] == {"type": "number"}
    assert apis["total"].tool.parameters["required"] == ["prices"]
    assert apis["ship"].tool.parameters["properties"]["weight"] == {
        "type": "number",
        "description": "kilograms",
    }
    assert apis["ship"].tool.parameters["properties"]["days"] == {
        "description": "how long it may take",
        "default": 3,
    }


def test_an_installed_module(box):
    apis, _ = halves(open_door("python=networkx.utils.misc", box))
    assert apis and all(a.run == {"target": f"networkx.utils.misc:{n}", "path": ""} for n, a in apis.items())


def test_a_module_is_described_inside_the_walls(tmp_path, box):
    (tmp_path / "bad.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'owned')!r}).write_text('x')\n"
        "def f(x: int):\n    'Does it.'\n    return x\n"
    )
    with pytest.raises(InputError, match=r"cannot be described: (FileNotFoundError|OSError|PermissionError)"):
        list(open_door(f"python={tmp_path / 'bad.py'}", box))
    assert not (tmp_path / "owned").exists()


def test_an_openapi_document(tmp_path, box):
    path = tmp_path / "api.json"
    path.write_text(json.dumps(DOCUMENT))
    apis, refused = halves(open_door(f"openapi={path}", box))
    assert list(apis) == ["get_order", "create_order", "set_tags"]
    assert refused == {"orders/list_orders": "no_parameters"}
    order = apis["get_order"]
    assert order.run == {
        "method": "get", "server": "https://shop.example/v1", "route": "/orders/{number}",
        "places": {"number": "path", "fields": "query", "X-Trace": "header"},
    }  # fmt: skip
    assert order.answers == ({"number": 7, "state": "sent"},) and order.license == "MIT"
    assert apis["create_order"].run["places"] == {"item": "body", "count": "body"}
    assert apis["set_tags"].run["places"] == {"body": "whole"}


@pytest.mark.parametrize("packed", [False, True])
def test_tools_of_mcp_servers(tmp_path, box, packed):
    listing = tmp_path / "time.json"
    listing.write_text(json.dumps(MCP, indent=1))
    apis, refused = halves(open_door(f"mcp={listing}", box))
    assert list(apis) == ["now"] and refused == {"time/ping": "no_parameters"}
    lines = tmp_path / ("servers.jsonl.gz" if packed else "servers.jsonl")
    text = "".join(json.dumps({"server": s, "license": "MIT", **MCP["result"]}) + "\n" for s in "ab")
    lines.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = list(open_door(f"mcp={lines}", box))
    assert [a.id for a in found if isinstance(a, Api)] == ["a/now", "b/now"]


class Service:
    """An HTTP service that misbehaves by the order's number."""

    def __init__(self):
        self.seen = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, dict(self.headers), body.decode()))
                number = re.search(r"/orders/(\d+)", self.path)
                number = int(number[1]) if number else 0
                if number == 503 and sum("/503" in s[1] for s in outer.seen) < 2:
                    status, data = 503, b"busy"
                elif number == 99:
                    time.sleep(5)
                    status, data = 200, b"{}"
                elif number == 88:
                    status, data = 200, b"x" * 10**6
                elif number == 500:
                    status, data = 500, b"broken"
                elif number == 302:
                    status, data = 302, b""
                else:
                    status, data = 200, json.dumps({"number": number}).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service():
    service = Service()
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_operations_are_called_at_the_hosts_that_were_named(tmp_path, box, service, monkeypatch):
    path = tmp_path / "api.json"
    path.write_text(json.dumps(DOCUMENT))
    apis, _ = halves(open_door(f"openapi={path}", box))
    order, create, tags = apis["get_order"], apis["create_order"], apis["set_tags"]
    monkeypatch.setenv("SHOP_TOKEN", "Bearer hunter2")
    rest = RestConfig(
        hosts=(service.host,),
        server=f"http://{service.host}",
        headers={"Authorization": "SHOP_TOKEN"},
        seconds=1.0,
    )
    executors = Executors(box, rest, result_bytes=4096)
    done = executors.run(
        [
            (order, {"number": 7, "fields": ["a", "b c"], "X-Trace": "t"}), (create, {"item": "tea", "count": 2}),
            (tags, {"body": ["x", "ü"]}), (order, {"number": 500}), (order, {"number": 99}), (order, {"number": 88}),
            (order, {"fields": ["a"]}), (order, {"number": 302}), (order, {"number": 503}),
        ]
    )  # fmt: skip
    assert {d.executor for d in done} == {"rest"}
    assert [d.outcome.status for d in done] == ["ok"] * 3 + [
        "raised",
        "timeout",
        "too_large",
        "raised",
        "raised",
        "ok",
    ]
    assert "HTTP 500: broken" in done[3].outcome.error and "number" in done[6].outcome.error
    method, url, headers, _ = service.seen[0]
    assert (method, url) == ("GET", "/orders/7?fields=a&fields=b+c") and headers["X-Trace"] == "t"
    assert headers["Authorization"] == "Bearer hunter2"
    assert json.loads(service.seen[1][3]) == {"item": "tea", "count": 2}
    assert json.loads(service.seen[2][3]) == ["x", "ü"]
    assert not any("elsewhere" in s[1] for s in service.seen)
    assert "hunter2" not in str(done)
    executors.close()
    # Nobody named the document's own host: nothing is asked of it.
    mocked = Executors(box, RestConfig()).run(
        [(order, {"number": 7}), (order, {"number": "seven"}), (create, {})]
    )
    assert [d.executor for d in mocked] == ["mock"] * 3
    assert mocked[0].outcome.value == {"number": 7, "state": "sent"}
    assert "wrong_type" in mocked[1].outcome.error and "missing_required" in mocked[2].outcome.error


# -- questions by a model ----


@pytest.fixture
def library(tmp_path):
    require_walls()
    (tmp_path / "api.json").write_text(json.dumps(DOCUMENT))
    (tmp_path / "time.json").write_text(json.dumps(MCP))
    invoke(
        *(
            "apigen",
            "library",
            "build",
            f"python={SHOP}",
            f"openapi={tmp_path}/api.json",
            f"mcp={tmp_path}/time.json",
        ),
        *("--out", tmp_path / "library"),
    )
    return tmp_path / "library"


def config(tmp_path, library, url, *more):
    text = f"""
library: {library}
out: {tmp_path}/rows
rows: 30
heldout_rows: 0
attempts: 12
limits: {{seconds: 1.0}}
ask:
  generator: {{base_url: {url}, model: writer}}
  judge: {{base_url: {url}, model: judge}}
  pairs: 3
  license: CC0-1.0
"""
    path = tmp_path / "apigen.yaml"
    path.write_text(text)
    return ["apigen", "run", path, *more]


def test_from_files_to_verified_rows(tmp_path, library):
    assert len(read_library(library)) == 9
    shown = json.loads((library / "library.json").read_text())
    assert shown["refused"] == {
        "not_json": 2,
        "no_parameters": 4,
        "not_called_by_name": 2,
        "no_description": 1,
    }
    assert "9" in invoke("apigen", "library", "stats", library)
    assert "shop/price" in re.sub(r"\s", "", invoke("apigen", "library", "show", library, "--name", "shop/p"))
    with ChatServer(scripted, faults=(429, 500)) as server:
        invoke(*config(tmp_path, library, server.url, "--json", tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    rows = list(read_records(tmp_path / "rows/train.jsonl"))
    assert len(rows) == 30 and len({r.query for r in rows}) == 30
    (made,) = report["yields"]
    failed = [json.loads(line) for line in (tmp_path / "rows/rejected.jsonl").read_text().splitlines()]
    assert made["verified"] >= 30
    assert made["pairs"] == made["verified"] + len(failed)
    assert made["pairs"] == sum(
        made[k] for k in ("verified", "fail_format", "fail_execution", "fail_semantic", "duplicates")
    )
    reasons = Counter(f"{f['stage']}/{f['reason']}" for f in failed)
    assert reasons == report["reasons"]
    assert {"format/bad_json", "format/undefined_argument", "semantic/judged_wrong"} <= set(reasons)
    assert {"python", "mock"} == set(report["executors"])
    for row in rows:
        assert row.license == "CC0-1.0" and not row.query.endswith("3")
        assert "check:semantic" in row.lineage and row.lineage[0].startswith("style:")
    # Later requests show what passed before.
    prompts = [r["messages"][-1]["content"] for r in server.requests if r["model"] == "writer"]
    assert "as examples" not in prompts[0] and any("as examples" in p for p in prompts)


def test_a_kill_costs_only_what_was_not_answered(tmp_path, library):
    with ChatServer(scripted) as server:
        invoke(*config(tmp_path, library, server.url))
        whole = {
            p: (tmp_path / "rows" / p).read_bytes() for p in ("train.jsonl", "rejected.jsonl", "ledger.jsonl")
        }
        asked = len(server.requests)
    other = tmp_path / "other"
    other.mkdir()
    with ChatServer(scripted, delay=0.05) as server:
        words = [str(w) for w in config(other, library, server.url, "ask.generator.concurrency=1")]
        words = [sys.executable, "-m", "xlam_jax.cli.main", *words]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.requests) < 7:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (other / "rows/train.jsonl").exists()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        assert len(server.requests) <= asked + 2
    assert {p: (other / "rows" / p).read_bytes() for p in whole} == whole


def test_an_endpoint_that_is_not_there(tmp_path, library):
    text = invoke(*config(tmp_path, library, "http://127.0.0.1:9/v1", "ask.generator.retries=0"), code=1)
    assert "the generator answers nothing" in re.sub(r"\s+", " ", text)


def test_without_a_judge_values_have_to_stand_in_the_query(tmp_path, library):
    with ChatServer(scripted) as server:
        invoke(*config(tmp_path, library, server.url, "ask.judge=null", "rows=6"))
    rows = list(read_records(tmp_path / "rows/train.jsonl"))
    assert all("check:grounding-rule" in r.lineage and "check:semantic" not in r.lineage for r in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("apigen", "library", "build", "shop.py", "--out", "x"), "python=FILE.py"),
        (("apigen", "library", "build", "pyton=shop.py", "--out", "x"), "python"),
        (("apigen", "library", "build", "python=nothing.py", "--out", "x"), "no such Python file"),
        (("apigen", "library", "build", "openapi=nothing.json", "--out", "x"), "cannot be read"),
        (("apigen", "library", "build", f"openapi={SHOP}", "--out", "x"), "neither JSON nor YAML"),
        (("apigen", "library", "build", f"mcp={SHOP}", "--out", "x"), "not JSON"),
        (("apigen", "library", "stats", "nowhere"), "library build"),
        (
            ("apigen", "library", "build", f"python={SHOP}", "--out", "x", "--sandbox", "bublewrap"),
            "bubblewrap",
        ),
    ],
)
def test_bad_input(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in re.sub(r"\s+", " ", invoke(*words, code=2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"pairs": [{"query": "q", "answers": [{"name": "f", "arguments": {"x": 1}}]}]}', 1),
        ('<think>{"pairs": []}</think>[{"query": "q", "answers": []}]', 1),
        ('```json\n{"query": "q", "answers": [{"name": "f", "arguments": "{\\"x\\": 1}"}]}\n```', 1),
        ('{"pairs": [{"query": "q", "answers": "f(1)"}, {"answers": []}, {"query": "q", "answers": ["f"]}]}', 0),
        ('{"pairs": [{"query": "q \\ud800", "answers": []}]}', 0),
        ('{"pairs": [{"query": "q", "answers": [{"name": "f", "arguments": {"x": NaN}}]}]}', 0),
        ("no", 0), ("{" * 5000, 0), ("[" * 50000, 0), ("", 0), ('{"pairs": 5}', 0),
    ],
)  # fmt: skip
def test_what_models_answer_is_read(text, good):
    found = read_pairs(text)
    assert sum(not isinstance(p, str) for p in found) == good and found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"thought": "a", "pass": "yes"}', None), ('so: {"passes": true}', None), ('{"pass": "No"}', "judged_wrong"),
        ("maybe", "judge_unreadable"), ('{"pass": "perhaps"}', "judge_unreadable"), ("{" * 4000, "judge_unreadable"),
    ],
)  # fmt: skip
def test_verdicts_are_read(text, reason):
    fault = verdict(text)
    assert (fault.reason if fault else None) == reason


def test_a_split_stays_when_a_library_grows():
    ids = [f"g/f{i}" for i in range(1000)]
    kept = {i for i in ids if split_of(i, 0.2) == "heldout"}
    assert 150 < len(kept) < 250 and kept == {i for i in reversed(ids) if split_of(i, 0.2) == "heldout"}
