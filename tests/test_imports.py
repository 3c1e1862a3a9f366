"""No module of the package needs itself: its imports, those inside functions too, make no circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules():
    found = {}
    for path in (ROOT / "xlam_jax").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path, known):
    unread = [ast.parse(path.read_text("utf-8"))]
    while unread:
        node = unread.pop()
        if (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):  # for readers, not for Python
            continue
        unread += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module


def test_imports_make_no_circle():
    known = modules()
    graph = {name: set(imported(path, known)) - {name} for name, path in known.items()}
    assert len(graph) > 300 and sum(map(len, graph.values())) > 1000
    TopologicalSorter(graph).prepare()  # a CycleError names the circle
