"""The benchmarks of agents by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlam_jax.errors import InputError
from xlam_jax.evaluation.agents.run import Benchmark


def toolquery_twin(worlds: Sequence[str], prompt: str) -> Benchmark:
    """Our twin of ToolQuery, or of ToolQuery-Unified where the prompt is in the unified format.

    Args:
      worlds: of `toolquery.NAMES`.
      prompt: unified or react.
    """
    from xlam_jax.evaluation.agents.toolquery import make_world, twin_tasks

    title = "twin of ToolQuery" + ("-Unified" if prompt == "unified" else "")
    return Benchmark(title, tuple(task for name in worlds for task in twin_tasks(name)), make_world)


def webshop_twin() -> Benchmark:
    """Our twin of WebShop."""
    from xlam_jax.evaluation.agents.webshop.products import twin
    from xlam_jax.evaluation.agents.webshop.shop import Shop
    from xlam_jax.evaluation.agents.webshop.tasks import shop_tasks

    return Benchmark("twin of WebShop", shop_tasks(), lambda name: Shop(twin()))


def webshop_files(folder: Path) -> Benchmark:
    """WebShop's own products and goals, with our search.

    Raises:
      InputError: files that are missing or none of WebShop's.
    """
    from xlam_jax.evaluation.agents.webshop.files import read_shop
    from xlam_jax.evaluation.agents.webshop.shop import Shop

    catalogue, tasks = read_shop(folder)
    title = f"WebShop's {len(catalogue.products)} products with our search"
    note = "of WebShop, by another search and other nouns: not comparable"
    return Benchmark(title, tasks, lambda name: Shop(catalogue), note)


def benchmark_of(about: dict[str, Any], where: str, data: Path | None = None) -> Benchmark:
    """The benchmark that kept answers are of.

    Args:
      about: a run's `run.json`.
      where: it lies, for messages.
      data: WebShop's files, where the answers are to them.

    Raises:
      InputError: its tasks are not today's.
    """
    worlds = about["worlds"]
    if worlds == ["webshop"]:
        benchmark = webshop_files(data) if data else webshop_twin()
    else:
        benchmark = toolquery_twin(worlds, about["prompt"])
    if benchmark.fingerprint != about["tasks"]:
        what = f"the answers are to tasks {about['tasks']}, today's are {benchmark.fingerprint}"
        raise InputError(
            what, where=where, hint="the version of xlam-jax that asked them, or --data with the files"
        )
    return benchmark
