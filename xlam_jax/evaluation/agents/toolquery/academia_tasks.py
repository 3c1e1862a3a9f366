"""Tasks of the academia twin."""

from __future__ import annotations

from typing import Any

from xlam_jax.evaluation.agents.toolquery.gold import Again, Draft, yes

_AUTHORS = "SELECT name FROM author ORDER BY name"
_PAPERS = "SELECT title FROM paper ORDER BY title"


def _draw(draft: Draft, query: str, count: int = 1) -> list[str]:
    return draft.rng.sample([name for (name,) in draft.rows(query)], count)


def _pair(draft: Draft, fewest: int) -> tuple[str, str]:
    """Two authors of at least so many common papers, by the draw."""
    query = (
        "SELECT a.author, b.author FROM wrote a JOIN wrote b ON a.paper = b.paper AND a.author < b.author "
        "GROUP BY a.author, b.author HAVING count(*) >= ? ORDER BY 1, 2"
    )
    return draft.rng.choice(draft.rows(query, fewest))


def _only(values: list[Any], best: Any) -> int:
    """Where the best value stands; no tie."""
    if values.count(best) > 1:
        raise Again
    return values.index(best)


def mutual_collaborators(draft: Draft) -> tuple[str, Any]:
    names = _pair(draft, 1)
    draft.prepare("loadAuthorNet")
    known = [set(draft.call("neighbourCheck", graph="AuthorNet", node=name)) for name in names]
    goal = (
        f"How many people have written papers both with {names[0]} and with {names[1]}? Answer with a number."
    )
    return goal, len(known[0] & known[1])


def citations(draft: Draft) -> tuple[str, Any]:
    (title,) = _draw(draft, _PAPERS)
    draft.prepare("loadPaperNet")
    return f"How often was '{title}' cited? Answer with a number.", draft.call("paperNodeCheck", node=title)[
        "citations"
    ]


def more_cited(draft: Draft) -> tuple[str, Any]:
    titles = _draw(draft, _PAPERS, 2)
    draft.prepare("loadPaperNet")
    counts = [draft.call("paperNodeCheck", node=title)["citations"] for title in titles]
    best = titles[_only(counts, max(counts))]
    return f"Which was cited more often, '{titles[0]}' or '{titles[1]}'? Answer with the title.", best


def papers_together(draft: Draft) -> tuple[str, Any]:
    names = _pair(draft, 1)
    draft.prepare("loadAuthorNet")
    papers = draft.call("authorEdgeCheck", node1=names[0], node2=names[1])["papers"]
    return f"How many papers did {names[0]} and {names[1]} write together? Answer with a number.", len(papers)


def best_paper_together(draft: Draft) -> tuple[str, Any]:
    names = _pair(draft, 2)
    draft.prepare("loadAuthorNet")
    papers = draft.call("authorEdgeCheck", node1=names[0], node2=names[1])["papers"]
    draft.prepare("loadPaperNet")
    counts = [draft.call("paperNodeCheck", node=title)["citations"] for title in papers]
    goal = f"Which of the papers that {names[0]} and {names[1]} wrote together is cited most? Answer with the title."
    return goal, papers[_only(counts, max(counts))]


def venue_of_the_first_paper_together(draft: Draft) -> tuple[str, Any]:
    names = _pair(draft, 2)
    draft.prepare("loadAuthorNet")
    papers = draft.call("authorEdgeCheck", node1=names[0], node2=names[1])["papers"]
    draft.prepare("loadPaperNet")
    nodes = [draft.call("paperNodeCheck", node=title) for title in papers]
    years = [paper["year"] for paper in nodes]
    goal = (
        f"Where did {names[0]} and {names[1]} publish their earliest paper together? Answer with the venue."
    )
    return goal, nodes[_only(years, min(years))]["venue"]


def collaborators_at_home(draft: Draft) -> tuple[str, Any]:
    (name,) = _draw(draft, _AUTHORS)
    draft.prepare("loadAuthorNet")
    home = draft.call("authorNodeCheck", node=name)["organization"]
    others = draft.call("neighbourCheck", graph="AuthorNet", node=name)
    if not 2 <= len(others) <= 5:
        raise Again
    there = [other for other in others if draft.call("authorNodeCheck", node=other)["organization"] == home]
    draft.balance(bool(there))
    goal = (
        f"How many of those who wrote papers with {name} belong to the same organization as {name}? "
        "Answer with a number."
    )
    return goal, len(there)


def linked_papers(draft: Draft) -> tuple[str, Any]:
    (title,) = _draw(draft, _PAPERS)
    draft.prepare("loadPaperNet")
    neighbours = draft.call("neighbourCheck", graph="PaperNet", node=title)
    if not neighbours:
        raise Again
    goal = f"With how many papers is '{title}' linked by a citation, either way? Answer with a number."
    return goal, len(neighbours)


def same_organization(draft: Draft) -> tuple[str, Any]:
    names = _pair(draft, 1)
    draft.prepare("loadAuthorNet")
    homes = [draft.call("authorNodeCheck", node=name)["organization"] for name in names]
    draft.balance(homes[0] == homes[1])
    goal = f"Do {names[0]} and {names[1]} belong to the same organization? Answer with Yes or No."
    return goal, yes(homes[0] == homes[1])


def years_between(draft: Draft) -> tuple[str, Any]:
    titles = draft.rng.choice(draft.rows("SELECT paper, cited FROM cites ORDER BY 1, 2"))
    draft.prepare("loadPaperNet")
    years = [draft.call("paperNodeCheck", node=title)["year"] for title in titles]
    goal = f"How many years lie between '{titles[0]}' and '{titles[1]}'? Answer with a number."
    return goal, abs(years[0] - years[1])


def which_cites(draft: Draft) -> tuple[str, Any]:
    titles = list(draft.rng.choice(draft.rows("SELECT paper, cited FROM cites ORDER BY 1, 2")))
    draft.rng.shuffle(titles)
    draft.prepare("loadPaperNet")
    edge = draft.call("paperEdgeCheck", node1=titles[0], node2=titles[1])
    goal = f"Which of '{titles[0]}' and '{titles[1]}' cites the other? Answer with the title."
    return goal, edge["paper"]


def busiest_author(draft: Draft) -> tuple[str, Any]:
    (title,) = _draw(draft, _PAPERS)
    draft.prepare("loadPaperNet")
    authors = draft.call("paperNodeCheck", node=title)["authors"]
    if len(authors) < 2:
        raise Again
    draft.prepare("loadAuthorNet")
    counts = [draft.call("authorNodeCheck", node=name)["papers"] for name in authors]
    goal = f"Who of the authors of '{title}' has written the most papers? Answer with the name."
    return goal, authors[_only(counts, max(counts))]


TEMPLATES = (
    mutual_collaborators, citations, more_cited, papers_together, best_paper_together,
    venue_of_the_first_paper_together, collaborators_at_home,
    linked_papers, same_organization, years_between, which_cites, busiest_author,
)  # fmt: skip
