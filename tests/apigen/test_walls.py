"""What a module sees and can do inside the walls, what its process may say, and machines without any."""

import ast
import contextlib
import math
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.apigen.walled import HERE, QUICK, require_walls, write_module
from xlam_jax.apigen import sandbox
from xlam_jax.apigen.sandbox import Limits, Sandbox, run_calls, walls
from xlam_jax.apigen.walls import kinds, zygote
from xlam_jax.errors import InputError, WorkError


def test_a_call_finds_the_interpreter_as_it_was(tmp_path):
    """Whatever a call changes in Python, in the folder or in the environment is gone with it."""
    folder = write_module(
        tmp_path,
        """
        import builtins, decimal, math, os, random, sys
        STATE = []
        def spoil():
            math.pi = 3; builtins.len = lambda x: 666; decimal.getcontext().prec = 2; STATE.append(1)
            os.environ["TZ"] = "Asia/Tokyo"; open("trap.txt", "w").write("x"); os.makedirs("a/b"); os.chdir("/")
            sys.modules[__name__].look = lambda: "spoiled"
            return "spoiled"
        def look():
            return [math.pi, len("abc"), decimal.getcontext().prec, STATE, os.environ["TZ"], os.listdir(".")]
        """,
    )
    calls = [("mine:look", {}), ("mine:spoil", {}), ("mine:look", {})]
    before, spoiled, after = run_calls(calls, QUICK, paths=[folder])
    assert spoiled.value == "spoiled"
    assert before.value == after.value == [math.pi, 3, 28, [], "UTC", []]


def test_a_folder_shows_its_python_and_nothing_else(tmp_path):
    folder = write_module(
        tmp_path,
        """
        import os
        from helper import greet
        from pack.inner import NAME
        def see():
            here = os.path.dirname(__file__)
            seen = [sorted(os.listdir(p)) if os.path.isdir(p) else None for p in (here, "/root", "/home", "/etc")]
            return [greet(), NAME, seen]
        def read(path):
            return open(path).read()
        """,
    )
    write_module(folder, "def greet():\n    return 'hello'", "helper.py")
    (folder / "pack").mkdir()
    write_module(folder / "pack", "", "__init__.py")
    write_module(folder / "pack", "NAME = 'inner'", "inner.py")
    (folder / ".env").write_text("TOKEN=hunter2")
    (folder / "keys").mkdir()
    (folder / "keys" / "id").write_text("hunter2")
    paths = (str(folder / ".env"), "/proc/self/environ", "/etc/passwd", __file__)
    seen, *read = run_calls(
        [("mine:see", {}), *(("mine:read", {"path": p}) for p in paths)], QUICK, paths=[folder]
    )
    assert seen.value[:2] == ["hello", "inner"]
    here, root, home, etc = seen.value[2]
    assert here == ["helper.py", "mine.py", "pack"]
    homes = {
        "/root": root,
        "/home": home,
    }  # one of them may hold the interpreter itself, and shows nothing else
    assert all(seen is None or sys.base_prefix.startswith(f"{place}/") for place, seen in homes.items())
    assert etc in (["ld.so.cache"], None)
    assert [outcome.status for outcome in read] == ["raised"] * 4


@pytest.mark.parametrize(
    ("top", "status", "words"),
    [
        ("import os; os._exit(3)", "raised", "while it was imported"),
        ("raise RuntimeError('no such luck')", "raised", "no such luck"),
        ("import nonexistent_package", "raised", "nonexistent_package"),
        # What the module could have forged: replies before it is asked, and a length that never ends.
        (
            "import os\nfor fd in range(3, 32):\n try: os.write(fd, b'x' * 4096)\n except OSError: pass",
            "raised",
            "",
        ),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "raised", "PermissionError"),
        ("open('/modules/0/mine.py', 'w').write('')", "raised", "Read-only file system"),
    ],
)
def test_a_module_that_misbehaves_while_it_is_imported(tmp_path, top, status, words):
    folder = write_module(tmp_path, top + "\n")
    with open(folder / "mine.py", "a") as file:
        file.write("def f():\n    return 1\n")
    with Sandbox(QUICK, paths=[folder, HERE]) as box:
        mine, other = box.run([("mine:f", {}), ("hostile:well", {"x": 1})])
    assert mine.status == status and words in mine.error, mine
    assert other.value == 2


@pytest.mark.parametrize(
    "text",
    [
        "return '\\ud800'",
        "return {'\\udfff': 1}",
        "return 10 ** 20000",
        "import sys; sys.set_int_max_str_digits(0); return 10 ** 20000",
        "import sys; sys.setrecursionlimit(10 ** 6); x = []\n    for _ in range(5000): x = [x]\n    return x",
        "return float('inf')",
        "return {(1, 2): 3}",
        "return object()",
        "return b'bytes'",
    ],
)
def test_values_that_are_no_json(tmp_path, text):
    folder = write_module(tmp_path, f"def f():\n    {text}\n")
    (outcome,) = run_calls([("mine:f", {})], QUICK, paths=[folder])
    assert outcome.status == "not_serialisable" and outcome.value is None and outcome.error


def test_a_value_is_what_it_is_and_not_what_its_class_says(tmp_path):
    folder = write_module(
        tmp_path,
        """
        import collections, enum, numpy
        class I(int):
            def __repr__(self): return '1, "status": "ok"'
        class D(dict):
            def items(self): return [("forged", 1)]
        class S(str):
            def __str__(self): return "forged"
        class E(enum.IntEnum): A = 7
        P = collections.namedtuple("P", "x y")
        def f():
            return [I(3), D(a=2), S("x"), E.A, P(1, 2), numpy.float64(0.5), numpy.int32(4), {1: -0.0, None: True}]
        """,
    )
    (outcome,) = run_calls([("mine:f", {})], QUICK, paths=[folder])
    assert outcome.value == [3, {"a": 2}, "x", 7, [1, 2], 0.5, 4, {"1": 0.0, "null": True}]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"m", b""), (b"m", b"{"), (b"m", b"[]"), (b"m", b'{"status": "fine"}'), (b"m", b'{"status": "ok"}'),
        (b"m", b'{"status": "ok", "json": 5}'), (b"m", b'{"status": "ok", "json": "{"}'), (b"m", b"\xff\xfe"),
        (b"m", b'{"status": "ok", "json": "NaN"}'), (b"m", b'{"status": "raised", "error": 5}'),
        (b"m", b'{"status": "ok", "json": "' + b"[" * 30000 + b'"}'), (b"q", b"1"), (b"d", b"x"), (b"m", b"NaN"),
        (b"m", b'{"status": "ok", "json": "\\"\\\\ud800\\""}'), (b"m", b'{"status": ["ok"]}'),
        (b"m", b'{"status": "ok", "json": "' + b"9" * 5000 + b'"}'),
    ],
)  # fmt: skip
def test_replies_that_are_none_end_as_outcomes(tmp_path, monkeypatch, kind, data):
    """A process that speaks for itself, in the place of the one we start."""
    require_walls()
    script = tmp_path / "zygote.py"
    script.write_text(
        "import os, struct, time\n"
        f"def say(k, d): os.write(1, struct.pack('{zygote.REPLY.format}', k, len(d), False, 0.0, 0.0) + d)\n"
        f"say(b'r', b'')\nos.read(0, 1 << 20)\nsay({kind!r}, {data!r})\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(kinds, "_ZYGOTE", script)
    (outcome,) = run_calls([("hostile:well", {"x": 1})], QUICK, paths=[HERE])
    assert outcome.status == "raised" and outcome.value is None


@pytest.mark.parametrize(
    "then",
    [
        "os.write(1, b'm' + b'\\xff' * 100)\ntime.sleep(60)",
        "[(os.write(1, b'\\0'), time.sleep(0.2)) for _ in range(300)]",
        "time.sleep(60)",
        "os._exit(0)",
    ],
)
def test_no_message_extends_the_deadline(tmp_path, monkeypatch, then):
    require_walls()
    script = tmp_path / "zygote.py"
    script.write_text(
        "import os, struct, time\n"
        f"os.write(1, struct.pack('{zygote.REPLY.format}', b'r', 0, False, 0.0, 0.0))\nos.read(0, 1 << 20)\n{then}\n"
    )
    monkeypatch.setattr(kinds, "_ZYGOTE", script)
    monkeypatch.setattr(sandbox, "_GRACE", 0.3)
    start = time.monotonic()
    (outcome,) = run_calls([("hostile:well", {"x": 1})], Limits(seconds=0.3), paths=[HERE])
    assert outcome.status in ("raised", "timeout") and time.monotonic() - start < 20


def test_modules_of_others_are_not_run_without_walls(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("open('/tmp/xlam-must-not-exist', 'w')\ndef f():\n    return 1\n")
    monkeypatch.setattr(kinds, "bubblewrap", lambda: ("", "bubblewrap is not installed"))
    with pytest.raises(InputError, match="'mine' is not run without walls") as error:
        run_calls([("mine:f", {})], QUICK, paths=[tmp_path])
    assert "not installed" in error.value.where and "xlam-jax[apigen]" in error.value.hint
    assert not Path("/tmp/xlam-must-not-exist").exists()
    own = ("xlam_jax.apigen.functions.arithmetic:factorial", {"n": 5})
    assert run_calls([own], QUICK)[0].value == 120
    (tmp_path / "mine.py").write_text("def f():\n    return 1\n")
    assert run_calls([("mine:f", {})], QUICK, paths=[tmp_path], trust=True)[0].value == 1
    with pytest.raises(WorkError, match="not installed"):
        walls("bubblewrap")


def test_an_unknown_module_is_named():
    require_walls()
    with pytest.raises(InputError, match="no module 'no_such_module_anywhere'"):
        run_calls([("no_such_module_anywhere:f", {})])


def test_walls_that_cannot_be_put_up_say_so(tmp_path, monkeypatch):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    kinds.bubblewrap.cache_clear()
    try:
        assert walls() == (
            "none",
            "bubblewrap cannot make its namespaces here: bwrap: No permissions to create a new namespace",
        )
    finally:
        kinds.bubblewrap.cache_clear()


def test_a_container_runs_the_same_process(tmp_path, monkeypatch):
    """Its command line by a stand-in for docker, which runs what follows the image's name on this machine."""
    stand_in = tmp_path / "docker"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "args = sys.argv[1:]\n"
        "assert args[0] == 'run' and '--read-only' in args and args[args.index('--network') + 1] == 'none', args\n"
        "volumes = [args[i + 1].split(':') for i, a in enumerate(args) if a == '--volume']\n"
        "inside = {v[1]: v[0] for v in volumes}\n"
        "assert all(v[2] == 'ro' for v in volumes), volumes\n"
        "command = args[args.index('xlam-sandbox') + 1:]\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, '-I', inside[command[-1]]])\n"
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(kinds, "_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    (outcome,) = run_calls([("math:sqrt", {})], QUICK, kind="docker")
    assert outcome.status == "raised" and "math.sqrt" in outcome.error


@pytest.mark.slow
def test_every_public_attack_is_contained(tmp_path):
    """The hostile module of the shared cases, with its names and arguments read, not imported."""
    require_walls()
    source = Path(__file__).parents[3] / "shared" / "cases" / "sandbox" / "attacks.py"
    if not source.exists():
        pytest.skip(f"{source} is not here")
    shutil.copy(source, tmp_path)
    for folder in ("out", "home", "secret"):
        (tmp_path / folder).mkdir()
    for file in ("out/victim", "home/keep.txt", "secret/of_root"):
        (tmp_path / file).write_text("SECRET")
    (tmp_path / "secret/of_root").chmod(0o600)
    functions = [
        (node.name, [a.arg for a in node.args.args])
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "well"
    ]
    assert len(functions) >= 70
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "out/socket"))
        local.listen()
        for server in (tcp, local):
            server.settimeout(0.1)
        known = {"port": tcp.getsockname()[1], "path": str(tmp_path / "out/socket")}
        before = sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
        with Sandbox(Limits(seconds=1.0), paths=[tmp_path]) as box:
            for name, parameters in functions:
                arguments = {p: known.get(p, 1) for p in parameters}
                calls = [
                    ("attacks:well", {"x": 1}),
                    (f"attacks:{name}", arguments),
                    ("attacks:well", {"x": 2}),
                ]
                first, outcome, second = box.run(calls)
                assert (first.value, second.value) == (2, 3), name
                assert "SECRET" not in str(outcome.value), (name, outcome)
                for server in (tcp, local):
                    with contextlib.suppress(TimeoutError):
                        heard.append((name, server.accept()[0].recv(10)))
        after = sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    assert before == after and heard == []
