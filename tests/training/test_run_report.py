"""The page of a run: what it shows is what the files say, hostile text stays text, and a browser draws it."""

import json
import math
import os
import re
from html.parser import HTMLParser

import pytest

from xlam_jax.plots import line_chart
from xlam_jax.training.report import write_report

HOSTILE = (
    "</script><script>window.pwned=1</script><img src=x onerror='window.pwned=1'>\"'`$title ${facts}&lt;"
)


class Page(HTMLParser):
    """Tags, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_data(self, data):
        self.text.append(data)


def make_run(folder, steps=200):
    """A run folder without the arrays, as a run of two sessions leaves it."""
    folder.mkdir()
    for step in (100, 150, 200):
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
    rows = []
    for s in range(1, steps + 1):
        loss = 4 * math.exp(-s / 60) + 0.4 + 0.1 * math.sin(s * 1.7)
        rate = 1e-4 * min(s / 20, 0.5 * (1 + math.cos(math.pi * s / steps)))
        speed = {
            "tokens_per_second": 5000.0 + s,
            "target_tokens_per_second": 900.0,
            "padded_tokens_per_second": 6e3,
        }
        rows.append(
            {
                "step": s,
                "loss": None if s == 77 else loss,
                "accuracy": 1 - loss / 5,
                "grad_norm": 2 / (1 + s / 50),
            }
            | {"lr": rate, **speed, "goodput": 0.9, "seconds": 3.0 * s, "rss_gib": 1.5}
            | {
                "epoch": s / 80,
                "step_seconds": 3.0,
                "tflops_per_device": 400.0,
                "mfu": 0.404,
                "device_gib": 61.5,
            }
        )
        if s % 50 == 0:
            rows.append({"step": s, "eval_loss": loss + 0.1, "eval_accuracy": 0.8, "eval_ast": s / 250})
        if s % 100 == 0:
            layers = [1.0 + 0.1 * i for i in range(12)]
            rows.append(
                {"step": s, "grad_norms": {"embed": 0.5, "layers.attn.q": layers, "layers.up": layers}}
                | {"param_norms": {"embed": 9.0, "layers.attn.q": layers}}
            )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    events = [
        ("started", 0, {}),
        ("skipped", 77, {"loss": "nan", "records": [HOSTILE, "r2"]}),
        ("saved", 100, {}),
        ("stopped", 100, {"why": "SIGTERM"}),
        ("resumed", 100, {}),
        ("best", 150, {"eval_loss": 0.9}),
        ("failed", None, {"error": HOSTILE}),
        ("finished", 200, {"why": "last step"}),
    ]
    lines = [
        {"time": f"2026-01-01T00:0{i}:00+00:00", "event": e, "step": s, **f}
        for i, (e, s, f) in enumerate(events)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in lines))
    (folder / "run.json").write_text(json.dumps({"total_steps": steps, "started": 0, "flops": HOSTILE}))
    (folder / "best.json").write_text(json.dumps({"step": 150, "metric": "eval_loss", "value": 0.9}))
    (folder / "config.yaml").write_text(f"model: {json.dumps(HOSTILE)}\noptim: {{lr: 0.0001}}\n")
    (folder / "versions.json").write_text(
        json.dumps({"jax": "0.10.2", "git": {"commit": "ab" * 20, "dirty": True}})
    )
    manifest = {"rows": 1234, "records": 5678, "tokens": 10**6, "shards": [{}, {}], "seq_len": 4096}
    (folder / "data.manifest.json").write_text(json.dumps({**manifest, "codec": {"template": HOSTILE}}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    write_report(make_run(root / "run"))
    (root / "empty").mkdir()
    write_report(root / "empty")
    return root


def html(folder, name="run"):
    return (folder / name / "report.html").read_text("utf-8")


def test_the_page_shows_what_the_files_say(folder):
    page = Page(html(folder))
    text = " ".join(page.text)
    for words in (
        "200 of 200", "eval_loss 0.9 at 150", "skipped steps", "SIGTERM", "2 sessions", "1,234", "git.commit",
        "40.4 %", "61.5 GiB", "how FLOPs are counted",
            "ab" * 20, "optim: {lr: 0.0001}", "gradient norm by layer, step 200", "90.0 %", "last",
    ):  # fmt: skip
        assert words in text, words
    assert (
        page.tags.count("svg") == 12
    )  # loss, gradient, rate, four of speed, memory, accuracy, goodput, two of layers


def test_hostile_text_adds_nothing(folder):
    page = Page(html(folder))
    assert not {"script", "img"} & set(page.tags)
    text = "".join(page.text)
    assert (
        text.count(HOSTILE) == 4 and json.dumps(HOSTILE) in text
    )  # event, error, manifest, FLOPs; the config's
    assert not [a for a in page.attributes if a[1].startswith("on")]


def test_the_page_needs_nothing_else(folder):
    text = html(folder)
    # A chart's lines are cut at its axes, which it names by url(#...).
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import", re.sub(re.escape(HOSTILE), "", text))
    page = Page(text)
    assert not [a for a in page.attributes if a[1] in ("src", "href")]
    (policy,) = [a[2] for a in page.attributes if a[1] == "content" and "default-src" in a[2]]
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_a_run_that_says_nothing_yet(folder):
    page = Page(html(folder, "empty"))
    assert "svg" not in page.tags and "0 of ?" in " ".join(page.text)


# -- charts ----


def points_of(svg, line=0):
    """Of each piece of a line its points, in the chart's units."""
    path = next(
        d for d, style in re.findall(r'<path d="([^"]+)"[^>]*style="([^"]+)"', svg) if f"--c{line}" in style
    )
    pieces = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", piece) for piece in path.split("M")[1:]]
    return [[(float(x), float(y)) for x, y in piece] for piece in pieces]


def test_a_chart_s_points_are_proportional_to_its_values():
    ((a, b, c, d),) = points_of(line_chart({"x": [(0, 1.0), (10, 3.0), (20, 2.0), (40, 1.0)]}))
    assert a[1] == d[1] > c[1] > b[1] and (a[1] - c[1]) == pytest.approx((a[1] - b[1]) / 2, abs=0.11)
    assert (b[0] - a[0]) == pytest.approx((d[0] - a[0]) / 4, abs=0.11)


def test_lines_share_their_axes():
    svg = line_chart({"x": [(0, 1.0), (10, 3.0)], "y": [(5, 2.0), (10, 3.0)]})
    ((a, b),), ((c, d),) = points_of(svg, 0), points_of(svg, 1)
    assert b == d and c == pytest.approx(((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), abs=0.11)


def test_a_gap_where_there_is_no_number():
    left, right = points_of(
        line_chart({"x": [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 5.0), (5, 6.0)]})
    )
    assert len(left) == len(right) == 2


@pytest.mark.parametrize("points", [[], [(1, math.nan)]])
def test_no_number_no_chart(points):
    assert line_chart({"x": points}) == ""


@pytest.mark.parametrize("points", [[(1, 0.0)], [(1, 5.0), (2, 5.0)], [(1, 1e-30), (2, 1e30)], [(3, -2.0)]])
def test_odd_ranges_are_drawn(points):
    svg = line_chart({"x": points})
    assert "--c0" in svg and "nan" not in svg.lower()


def test_a_long_run_is_a_small_chart_that_keeps_its_spikes():
    points = [(i, math.sin(i * 1.7)) for i in range(100_000)]
    points[54_321] = (54_321, 99.0)
    svg = line_chart({"x": points})
    highest = min(y for piece in points_of(svg) for _, y in piece)  # y grows downwards
    assert highest < 20 and len(svg) < 200_000


def values_of(svg):
    """What the pointer is told, and where: (text, x, y)."""
    found = re.findall(r'<circle cx="([^"]*)" cy="([^"]*)"[^>]*><title>(.*?)</title></circle>', svg)
    return [(text, float(x), float(y)) for x, y, text in found]


def test_points_say_their_values_where_they_are_drawn():
    svg = line_chart({"<loss>": [(0, 1.0), (1, 0.25), (2, math.nan), (12_345, 1e-9)]})
    drawn = [point for piece in points_of(svg) for point in piece]
    told = values_of(svg)
    assert [text for text, _, _ in told] == [
        "step 0: 1, &lt;loss&gt;", "step 1: 0.25, &lt;loss&gt;", "step 12,345: 1e-09, &lt;loss&gt;",
    ]  # fmt: skip
    assert [told[0][1:], told[1][1:]] == [pytest.approx(p, abs=0.11) for p in drawn[:2]]


def test_a_long_line_says_some_values_and_its_extremes():
    points = [(i, math.sin(i * 1.7)) for i in range(10_000)]
    points[4_321] = (4_321, 99.0)
    told = [text for text, _, _ in values_of(line_chart({"x": points}))]
    assert 100 < len(told) < 150 and "step 4,321: 99, x" in told and told[-3].startswith("step 9,999")


def test_a_chart_is_the_same_each_time():
    charts = {line_chart({"x": [(0, 1.0), (10, 3.0)]}) for _ in range(2)}
    assert len(charts) == 1


# -- browser ----


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_a_browser_draws_it(browser, folder, scheme, width):
    """Nothing on the console, no request, no overflow; lines have a colour and stand inside their chart."""
    said = []
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.on("console", lambda m: said.append(m.text))
    tab.on("pageerror", lambda e: said.append(str(e)))
    tab.on("request", lambda r: r.url.startswith("file:") or said.append(r.url))
    tab.goto((folder / "run" / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("window.pwned") is None
    boxes = tab.evaluate(
        """[...document.querySelectorAll('svg')].map(svg => {
             const outer = svg.getBoundingClientRect()
             return [...svg.querySelectorAll('path[style*="var(--c"]:not(defs *)')].every(path => {
               const box = path.getBoundingClientRect(), style = getComputedStyle(path)
               return box.left >= outer.left && box.right <= outer.right && box.top >= outer.top
                 && box.bottom <= outer.bottom && box.width > 0 && style.stroke !== 'none'
             })
           })"""
    )
    assert len(boxes) == 12 and all(boxes)
    if os.environ.get("XLAM_SCREENSHOTS"):
        tab.screenshot(path=f"{os.environ['XLAM_SCREENSHOTS']}/run-{scheme}-{width}.png", full_page=True)
    tab.close()
    assert said == []
