"""`xlam convert push`, against a small hub of our own."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
from tiny_hf import files, write
from typer.testing import CliRunner

from xlam_jax.cli import convert
from xlam_jax.errors import InputError, WorkError


def run(*args) -> str:
    result = CliRunner().invoke(convert.app, [str(a) for a in args])
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


class Hub(BaseHTTPRequestHandler):
    """Takes a repository and a commit of small files; refuses tokens and owners that it does not know."""

    def do_POST(self):
        body = self.body()
        self.server.asked.append(self.path)
        url = f"http://127.0.0.1:{self.server.server_port}"
        if self.headers["Authorization"] != "Bearer good":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            about = json.loads(body)
            self.server.repo = about
            if about.get("organization") != "me":
                return self.answer(403, {"error": "You don't have the rights"})
            return self.answer(200, {"url": f"{url}/me/caller"})
        if self.path == "/api/validate-yaml":
            self.server.card = json.loads(body)["content"]
            return self.answer(200, {"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            names = [f["path"] for f in json.loads(body)["files"]]
            answers = [
                {"path": n, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for n in names
            ]
            return self.answer(200, {"files": answers})
        assert "/commit/" in self.path, self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.got[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer(
            200, {"commitUrl": f"{url}/me/caller/commit/1", "commitOid": "1", "hookOutput": ""}
        )

    def body(self):
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.got, server.asked = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def released(tmp_path):
    write("llama", tmp_path / "base")
    (tmp_path / "base/LICENSE").write_text("MIT License\n")
    run("to-hf", tmp_path / "base", tmp_path / "out")
    return tmp_path / "out"


def test_a_dry_run_sends_nothing_and_yes_sends_what_was_shown(released, hub, tmp_path):
    (released / "notes.txt").write_text("mine")
    text = run("push", released, "me/caller", "--json", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    sent = {n: b for n, b in files(released).items() if n != "notes.txt"}
    assert report["files"] == {n: len(b) for n, b in sent.items()} and report["sent"] is False
    assert "dry run" in text and "private" in text and "revision main" in text and not hub.asked
    text = run("push", released, "me/caller", "--yes")
    assert hub.got == sent and hub.repo["visibility"] == "private" and hub.repo["name"] == "caller"
    assert "/me/caller/commit/1" in text


def test_what_must_not_go_is_refused(released, hub, tmp_path):
    run("from-hf", released, tmp_path / "taken")
    for folder, repo, word in (
        (tmp_path / "taken", "me/caller", "no model card"),
        (released, "caller", "owner"),
        (released, "me/a/b", "me/a/b"),
    ):
        with pytest.raises(InputError, match=word):
            run("push", folder, repo, "--yes")
    (released / "LICENSE").write_text("another")
    with pytest.raises(WorkError, match=r"LICENSE"):
        run("push", released, "me/caller", "--yes")
    (released / "README.md").unlink()
    with pytest.raises(InputError, match="no model card"):
        run("push", released, "me/caller", "--yes")
    assert not hub.asked


def test_a_folder_whose_card_was_removed_goes_without_it(released, hub, tmp_path):
    (released / "README.md").unlink()
    here = files(released)
    run("push", released, "me/caller", "--without-card", "--json", tmp_path / "r.json")
    run("push", released, "me/caller", "--without-card", "--yes")
    assert set(hub.got) == set(here) and files(released) == here
    assert json.loads((tmp_path / "r.json").read_text())["files"] == {n: len(b) for n, b in hub.got.items()}
    for name, body in hub.got.items():
        (tmp_path / "got" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "got" / name).write_bytes(body)
    assert f"{len(here) - 1} files as written" in run("verify", tmp_path / "got")


def test_errors_of_token_and_hub_are_one_line(released, hub, monkeypatch):
    with pytest.raises(InputError, match="may not write there"):
        run("push", released, "them/caller", "--yes")
    monkeypatch.setenv("HF_TOKEN", "bad")
    with pytest.raises(InputError, match="refuses the token"):
        run("push", released, "me/caller", "--yes")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="no token"):
        run("push", released, "me/caller", "--yes")
    assert not hub.got
