"""The academia twin: two graphs of invented papers and authors, with the functions of AgentBoard's academia tasks."""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from xlam_jax.evaluation.agents.toolquery.base import QueryWorld
from xlam_jax.evaluation.agents.toolquery.names import PLACES, people
from xlam_jax.evaluation.agents.world import Refusal

PAPERS, AUTHORS = 150, 60
GRAPHS = ("PaperNet", "AuthorNet")
_TOPICS = (
    "Sparse Attention", "Tide Prediction", "Graph Matching", "Soil Moisture", "Query Planning", "Robot Grasping",
    "Bird Song", "Program Repair", "Traffic Flow", "Protein Folding", "Text Simplification", "Image Denoising",
    "Federated Search", "Power Grids", "Causal Discovery",
)  # fmt: skip
_WAYS = (
    "Learning to Rank for {}", "A Survey of {}", "Bounds on {}", "{} at Scale", "{} with Few Labels",
    "{} under Uncertainty", "Revisiting {}", "{} by Local Search", "Towards Robust {}", "A Benchmark for {}",
)  # fmt: skip
_VENUES = (
    "Journal of Applied Inference",
    "NORDCOMP",
    "Workshop on Small Data",
    "Letters in Computing",
    "SYMPAR",
)
_TABLES = """
CREATE TABLE paper (title TEXT PRIMARY KEY, year INTEGER, venue TEXT, citations INTEGER, keywords TEXT);
CREATE TABLE author (name TEXT PRIMARY KEY, organization TEXT, interests TEXT);
CREATE TABLE wrote (paper TEXT, place INTEGER, author TEXT);
CREATE TABLE cites (paper TEXT, cited TEXT);
"""


def make_db() -> sqlite3.Connection:
    """150 papers by 60 authors; the same in every run."""
    db = sqlite3.connect(":memory:", check_same_thread=False)
    db.executescript(_TABLES)
    rng = random.Random("academia")
    places = [f"University of {place}" for place in PLACES[:8]]
    authors = people(AUTHORS, rng)
    for name in authors:
        interests = ", ".join(rng.sample(_TOPICS, 2)).lower()
        db.execute("INSERT INTO author VALUES (?, ?, ?)", (name, rng.choice(places), interests))
    titles = [way.format(topic) for topic in _TOPICS for way in _WAYS]
    rng.shuffle(titles)
    for number, title in enumerate(titles):
        keywords = ", ".join(rng.sample(_TOPICS, 3)).lower()
        paper = (title, 1998 + number // 6, rng.choice(_VENUES), rng.randint(0, 900), keywords)
        db.execute("INSERT INTO paper VALUES (?, ?, ?, ?, ?)", paper)
        # Groups of ten write together, so that people meet again.
        group = 10 * rng.randrange(AUTHORS // 10)
        names = rng.sample(authors[group : group + 12], rng.randint(1, 4))
        db.executemany(
            "INSERT INTO wrote VALUES (?, ?, ?)", [(title, n, name) for n, name in enumerate(names)]
        )
        cited = rng.sample(titles[:number], min(number, rng.randint(0, 4)))
        db.executemany("INSERT INTO cites VALUES (?, ?)", [(title, other) for other in cited])
    return db


class Academia(QueryWorld):
    """A graph must be loaded before it is asked; names and titles are exact."""

    name = "academia"

    def begin(self) -> None:
        self._loaded: set[str] = set()

    def loadPaperNet(self) -> Any:
        self._loaded.add("PaperNet")
        return "PaperNet is loaded."

    def loadAuthorNet(self) -> Any:
        self._loaded.add("AuthorNet")
        return "AuthorNet is loaded."

    def paperNodeCheck(self, node: str) -> Any:
        self._need("PaperNet", node)
        year, venue, citations, keywords = self.one(
            "", "SELECT year, venue, citations, keywords FROM paper WHERE title = ?", node
        )
        rows = self.rows("SELECT author FROM wrote WHERE paper = ? ORDER BY place", node)
        paper = {"title": node, "authors": [name for (name,) in rows], "year": year, "venue": venue}
        return paper | {"citations": citations, "keywords": keywords.split(", ")}

    def authorNodeCheck(self, node: str) -> Any:
        self._need("AuthorNet", node)
        organization, interests = self.one(
            "", "SELECT organization, interests FROM author WHERE name = ?", node
        )
        (papers,) = self.one("", "SELECT count(*) FROM wrote WHERE author = ?", node)
        author = {"name": node, "organization": organization, "interests": interests.split(", ")}
        return author | {"papers": papers}

    def neighbourCheck(self, graph: str, node: str) -> Any:
        if graph not in GRAPHS:
            raise Refusal(f"there is no graph {graph!r}; there are {' and '.join(GRAPHS)}")
        self._need(graph, node)
        query = {
            "PaperNet": "SELECT cited FROM cites WHERE paper = ?1 UNION SELECT paper FROM cites WHERE cited = ?1",
            "AuthorNet": (
                "SELECT DISTINCT b.author FROM wrote a JOIN wrote b ON a.paper = b.paper "
                "WHERE a.author = ?1 AND b.author != ?1"
            ),
        }[graph]
        return sorted(name for (name,) in self.rows(query, node))

    def authorEdgeCheck(self, node1: str, node2: str) -> Any:
        self._need("AuthorNet", node1, node2)
        query = (
            "SELECT a.paper FROM wrote a JOIN wrote b ON a.paper = b.paper WHERE a.author = ? AND b.author = ? "
            "AND a.author != b.author ORDER BY a.paper"
        )
        papers = [title for (title,) in self.rows(query, node1, node2)]
        if not papers:
            raise Refusal(f"{node1} and {node2} wrote nothing together")
        return {"papers": papers}

    def paperEdgeCheck(self, node1: str, node2: str) -> Any:
        self._need("PaperNet", node1, node2)
        query = "SELECT paper, cited FROM cites WHERE paper IN (?1, ?2) AND cited IN (?1, ?2)"
        paper, cited = self.one("neither of the two papers cites the other", query, node1, node2)
        return {"paper": paper, "cites": cited}

    def _need(self, graph: str, *nodes: str) -> None:
        if graph not in self._loaded:
            raise Refusal(f"{graph} is not loaded; call load{graph} first")
        table, key = {"PaperNet": ("paper", "title"), "AuthorNet": ("author", "name")}[graph]
        for node in nodes:
            self.one(f"{graph} has no node {node!r}", f"SELECT 1 FROM {table} WHERE {key} = ?", node)
