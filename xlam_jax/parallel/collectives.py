"""Reading programs for their collectives: how many there are, and whether one could hang."""

from __future__ import annotations

import collections
import re
from typing import Any

from jax.extend import core

_HLO = re.compile(
    r"= .*? (all-gather|all-reduce|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute)(?:-start)?\("
)
_PRIMITIVES = ("psum", "pmax", "pmin", "ppermute", "pbroadcast", "all_gather", "all_to_all", "reduce_scatter")


def count_collectives(hlo_text: str) -> dict[str, int]:
    """Collective operations in the text of a compiled program (`lowered.compile().as_text()`) by kind.

    Example:
      >>> count_collectives("  %y = f32[8]{0} all-reduce(%x), replica_groups={}")
      {'all-reduce': 1}
    """
    kinds = (match.group(1) for line in hlo_text.splitlines() if (match := _HLO.search(line)))
    return dict(collections.Counter(kinds))


def collectives_under_cond(jaxpr: Any) -> list[str]:
    """Collectives that run only if a value known at run time says so.

    Where devices disagree on that value the program hangs, so each entry needs a proof that they cannot.

    Args:
      jaxpr: of `jax.make_jaxpr` or `jax.jit(f).trace(...).jaxpr`, gradients included.

    Returns:
      one line for each, such as "scan/shard_map/while: psum_invariant".
    """
    conditional: list[str] = []

    def walk(jaxpr: core.Jaxpr, path: tuple[str, ...]) -> None:
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            if name.startswith(_PRIMITIVES) or "ragged_all_to_all" in name:
                if "cond" in path or "while" in path:
                    conditional.append("/".join(path) + ": " + name)
                continue
            for value in eqn.params.values():
                for inner in value if isinstance(value, list | tuple) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if isinstance(inner, core.Jaxpr):
                        walk(inner, (*path, name))

    walk(getattr(jaxpr, "jaxpr", jaxpr), ())
    return conditional
