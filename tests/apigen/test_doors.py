"""Tools of one's own: how their files are read, and how they are called."""

import gzip
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.apigen.own_tools import DOCUMENT, MCP, SHOP
from tests.apigen.walled import require_walls
from xlam_jax.apigen.api import Api, Refusal, split_of
from xlam_jax.apigen.doors import open_door
from xlam_jax.apigen.executors import CallsConfig, Executors, RestConfig
from xlam_jax.apigen.sandbox import Limits, Sandbox
from xlam_jax.errors import InputError


@pytest.fixture(scope="module")
def box():
    require_walls()
    with Sandbox(Limits(seconds=1.0)) as sandbox:
        yield sandbox


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
                    status, data = 500, f"broken {self.headers['Authorization']}".encode()
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
    executors = Executors(box, CallsConfig(rest=rest), result_bytes=4096)
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
    assert "HTTP 500: broken ${SHOP_TOKEN}" in done[3].outcome.error and "number" in done[6].outcome.error
    method, url, headers, _ = service.seen[0]
    assert (method, url) == ("GET", "/orders/7?fields=a&fields=b+c") and headers["X-Trace"] == "t"
    assert headers["Authorization"] == "Bearer hunter2"
    assert json.loads(service.seen[1][3]) == {"item": "tea", "count": 2}
    assert json.loads(service.seen[2][3]) == ["x", "ü"]
    assert not any("elsewhere" in s[1] for s in service.seen)
    assert "hunter2" not in str(done)
    executors.close()
    # Nobody named the document's own host: nothing is asked of it.
    mocked = Executors(box).run([(order, {"number": 7}), (order, {"number": "seven"}), (create, {})])
    assert [d.executor for d in mocked] == ["mock"] * 3
    assert mocked[0].outcome.value == {"number": 7, "state": "sent"}
    assert "wrong_type" in mocked[1].outcome.error and "missing_required" in mocked[2].outcome.error


@pytest.mark.parametrize("host", ["http://localhost:8080", "localhost:8080/v1", "me:pw@localhost:8080"])
def test_a_url_is_no_host(host):
    with pytest.raises(ValueError, match=r"is no host; write localhost:8080"):
        RestConfig(hosts=(host,))
    assert RestConfig(hosts=("Localhost:8080",)).hosts == ("localhost:8080",)


def test_a_split_stays_when_a_library_grows():
    ids = [f"g/f{i}" for i in range(1000)]
    kept = {i for i in ids if split_of(i, 0.2) == "heldout"}
    assert 150 < len(kept) < 250 and kept == {i for i in reversed(ids) if split_of(i, 0.2) == "heldout"}
