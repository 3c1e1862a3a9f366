"""The HTML page of records: its data block is the records again; hostile text stays text."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests import tiny_run
from xlam_jax.errors import InputError
from xlam_jax.format import Record, Step, Style, Tool, ToolCall, get_codec, write_records
from xlam_jax.shards.build import BuildConfig, build
from xlam_jax.shards.report_html import KINDS, island, report_entries, write_report
from xlam_jax.shards.tokenize import load_tokenizer

HOSTILE = (
    "</script><script>window.pwned=1</script></SCRIPT ><img src=x onerror='window.pwned=1'>\"'`${1}"
    "<!-- --> ]]> __DATA__ __SCRIPT_HASH__\x00\x07\x1b[31m\u2028\u202e t \u202c\U0001f31e北{{x}}\\u003c &lt;"
)
_NAME = "f" + HOSTILE
_PARAMETERS = {
    "type": "object",
    "properties": {HOSTILE: {"type": "string", "description": HOSTILE, "default": HOSTILE}, "n": {}},
    "required": [HOSTILE],
}
BAD = Record(
    HOSTILE,
    HOSTILE,
    (Tool(_NAME, HOSTILE, _PARAMETERS),),
    (Step(HOSTILE, (ToolCall(_NAME, {HOSTILE: HOSTILE, "n": 2**70, "f": 1.0}),), HOSTILE, HOSTILE), Step()),
    task_instruction=HOSTILE,
    source=HOSTILE,
    license=HOSTILE,
    lineage=(HOSTILE, "shuffle_tools"),
)
CONTROL = Record("control", "What is <|im_end|>?", (), (Step("An end."),), source="hand")
RECORDS = [*tiny_run.records(30), BAD, CONTROL]


class Page(HTMLParser):
    """Tags, attributes, and the text of each script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.attributes = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend((tag, *a) for a in attrs)
        if tag == "script":
            self.scripts.append([dict(attrs).get("type"), ""])

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts and self.get_starttag_text().startswith("<script"):
            self.scripts[-1][1] += data


def read(path):
    page = Page(path.read_text("utf-8"))
    (data,) = [json.loads(text) for kind, text in page.scripts if kind == "application/json"]
    return page, data


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_folder):
    root = tmp_path_factory.mktemp("report")
    codec = get_codec(thought=True)
    write_report(root / "spans.html", RECORDS, codec, title=HOSTILE)
    write_report(root / "tokens.html", RECORDS, codec, tokenizer_folder, title="rows.jsonl")
    write_report(root / "empty.html", [], codec, title="none.jsonl")
    return root


@pytest.mark.parametrize("name", ["spans", "tokens"])
def test_the_data_block_is_the_records(folder, name):
    _, data = read(folder / f"{name}.html")
    assert [Record.from_json(json.loads(e["record"])) for e in data["records"]] == RECORDS
    codec = get_codec(thought=True)
    assert [e["text"] for e in data["records"]] == [codec.render(r).text for r in RECORDS]
    assert [e["record"] for e in data["records"]] == [
        json.dumps(r.to_json(), ensure_ascii=False) for r in RECORDS
    ]
    assert data["about"]["records"] == len(RECORDS)


def test_hostile_text_adds_nothing_to_the_document(folder):
    pages = [read(folder / f"{name}.html")[0] for name in ("spans", "tokens", "empty")]
    assert pages[0].tags == pages[2].tags == pages[1].tags
    assert pages[0].attributes == pages[2].attributes == pages[1].attributes
    html = (folder / "spans.html").read_text("utf-8")
    block = html.split('id="data">')[1].split("</script>")[0]
    assert block.isascii() and not set(block) & set("<>&\x00")
    assert html.replace(block, "") == (folder / "empty.html").read_text("utf-8").replace(
        island(read(folder / "empty.html")[1]), ""
    )


def test_the_page_needs_nothing_else(folder):
    html = (folder / "tokens.html").read_text("utf-8")
    page, _ = read(folder / "tokens.html")
    outside = html.replace(html.split('id="data">')[1].split("</script>")[0], "")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|innerHTML|eval\(", outside)
    assert not [a for a in page.attributes if a[1] in ("src", "href") or a[1].startswith("on")]
    (policy,) = [a[2] for a in page.attributes if a[1] == "content" and "default-src" in a[2]]
    assert policy.startswith("default-src 'none'") and re.search(r"script-src 'sha256-[^']{44}'", policy)
    assert "noscript" in page.tags


def pieces(entry):
    """(text of the piece, kind), read as JavaScript reads it: in UTF-16 units."""
    units, start = entry["text"].encode("utf-16-le"), 0
    for end, kind in zip(entry["bounds"], entry["kinds"], strict=True):
        yield units[2 * start : 2 * end].decode("utf-16-le"), KINDS[kind]
        start = end


def test_pieces_are_the_codec_s_spans():
    codec = get_codec(thought=True)
    for record, entry in zip(RECORDS, report_entries(RECORDS, codec), strict=True):
        rendered = codec.render(record)
        found = list(pieces(entry))
        assert "".join(text for text, _ in found) == rendered.text
        for kind in ("thought", "name", "stop"):
            wanted = [rendered.text[s.start : s.end] for s in rendered.spans if s.kind == kind]
            assert [text for text, k in found if k == kind] == [w for w in wanted if w]
        trained = "".join(rendered.text[s.start : s.end] for s in rendered.spans if s.kind == "assistant")
        assert "".join(text for text, k in found if k != "prompt") == trained
        assert entry["parses"]


def test_calls_keep_their_numbers():
    (entry,) = report_entries([BAD], get_codec())
    (call,) = entry["calls"]
    assert call["step"] == 1 and call["name"] == _NAME
    assert [v for _, v in call["arguments"]] == [json.dumps(HOSTILE, ensure_ascii=False), str(2**70), "1.0"]
    (tool,) = entry["tools"]
    assert tool["called"] and [p[:3] for p in tool["parameters"]] == [
        [HOSTILE, "str", True],
        ["n", "Any", False],
    ]


def test_tokens_and_mask_are_those_of_the_build(folder, tokenizer_folder, tmp_path):
    """Token for token what `xlam data build` packs, and the same rows refused for the same reasons."""
    from xlam_jax.shards.loader import PackedSource

    write_records(tmp_path / "rows.jsonl", RECORDS)
    config = {"inputs": [str(tmp_path / "rows.jsonl")], "tokenizer": str(tokenizer_folder), "seq_len": 8192}
    build(BuildConfig(**config, out=str(tmp_path / "out"), codec={"thought": True}))  # type: ignore[arg-type]
    source = PackedSource(tmp_path / "out")
    packed = {}
    for k in range(len(source)):
        row, ids = source[k]
        for segment, id in enumerate(ids, 1):
            here = row.segment_ids == segment
            packed[id] = (row.tokens[here], row.targets[here], row.loss_weights[here])
    ledger = [json.loads(line) for line in (tmp_path / "out.ledger.jsonl").read_bytes().splitlines()]
    refused = {e["id"]: e["reason"] for e in ledger if e["verdict"] == "dropped"}
    assert refused == {"control": "special_token_in_text"}

    tokenizer = load_tokenizer(tokenizer_folder)
    _, data = read(folder / "tokens.html")
    assert {e["id"]: e["refused"][0] for e in data["records"] if "refused" in e} == refused
    assert data["about"]["refused"] == 1
    for entry in data["records"]:
        cells = [c if isinstance(c, list) else [c] for c in entry["token_ids"]]
        flat = [id for cell in cells for id in cell]
        assert flat == tokenizer(entry["text"], add_special_tokens=False)["input_ids"]
        assert len(flat) == entry["tokens"]
        assert sum(entry["lengths"]) == len(entry["text"].encode("utf-16-le")) // 2
        if entry["id"] in refused:
            continue
        tokens, targets, weights = packed[entry["id"]]
        n = len(tokens)
        assert flat[:n] == tokens.tolist() and flat[1 : n + 1] == targets.tolist()
        on, mask = False, []
        for k, cell in enumerate(cells):
            on ^= k in entry["trained"]
            mask += [on] * len(cell)
        assert mask[1 : n + 1] == (weights != 0).tolist() and sum(mask) == entry["trained_tokens"]


def test_a_style_of_the_record_is_seen():
    record = Record("s", "Hi", BAD.tools, (Step("", (ToolCall("f", {}),)),), style=Style(layout="xml"))
    (entry,) = report_entries([record], get_codec())
    assert "<query>" in entry["text"] and "[BEGIN OF" not in entry["text"]


def test_a_wrong_tokenizer_writes_nothing(tmp_path, tokenizer_folder):
    with pytest.raises(InputError, match="no single token"):
        write_report(tmp_path / "p.html", RECORDS, get_codec(template="llama-3"), tokenizer_folder)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def visit(browser, folder):
    """Opens a page; anything on the console, an error or a request fails the test."""
    said, opened = [], []

    def go(name, **options):
        tab = browser.new_page(viewport={"width": 1300, "height": 900}, **options)
        opened.append(tab)
        tab.on("console", lambda m: said.append(m.text))
        tab.on("pageerror", lambda e: said.append(str(e)))
        tab.on("request", lambda r: r.url.startswith("file:") or said.append(r.url))
        tab.goto((folder / f"{name}.html").as_uri())
        return tab

    yield go
    assert all(tab.evaluate("window.pwned") is None for tab in opened)
    for tab in opened:
        tab.close()
    assert said == []


def listed(tab):
    return tab.locator("nav li:visible").count()


def heading(tab):
    return tab.locator("h2").inner_text()


def search(tab, text):
    tab.fill("#search", text)
    tab.wait_for_timeout(200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browse_search_filter(visit, scheme):
    tab = visit("tokens", color_scheme=scheme)
    assert listed(tab) == len(RECORDS) and heading(tab) == "r0"
    assert tab.locator("#text").inner_text() == get_codec(thought=True).render(RECORDS[0]).text
    for _ in range(2):
        tab.keyboard.press("j")
    assert heading(tab) == "r2" and tab.locator("nav button[aria-current=true]").count() == 1
    tab.keyboard.press("k")
    assert heading(tab) == "r1"
    assert tab.url.endswith("#r1")

    tab.keyboard.press("/")
    tab.keyboard.type("KYOTO")
    tab.wait_for_timeout(200)
    wanted = [r.id for r in RECORDS if "kyoto" in json.dumps(r.to_json()).lower()]
    assert 0 < len(wanted) == listed(tab) and heading(tab) in wanted
    assert f"{len(wanted)} of {len(RECORDS)} records" in tab.locator("#count").inner_text()
    assert tab.evaluate("[...CSS.highlights.get('found')].map(String)")[0] == "Kyoto"
    tab.keyboard.press("Escape")
    assert listed(tab) == len(RECORDS)

    for choice, keep in {
        "no calls": lambda n: n == 0,
        "with calls": lambda n: n > 0,
        "2 calls": lambda n: n == 2,
        "3 calls or more": lambda n: n > 2,
    }.items():
        tab.select_option("#calls", choice)
        assert listed(tab) == sum(keep(sum(len(s.tool_calls) for s in r.steps)) for r in RECORDS)
    tab.select_option("#calls", "")
    tab.select_option("#checks", "refused")
    assert listed(tab) == 1 and "special_token_in_text" in tab.locator("[role=alert]").inner_text()
    search(tab, "no such thing")
    assert listed(tab) == 0 and "No record matches" in tab.locator("#detail").inner_text()
    tab.get_by_role("button", name="Clear search and filters").click()
    assert listed(tab) == len(RECORDS)


def test_hostile_record_is_only_text(visit):
    for name in ("tokens", "spans"):
        tab = visit(name)
        search(tab, HOSTILE[:30])
        assert listed(tab) == 1
        assert heading(tab).startswith("</script><script>window.pwned=1</script>")
        assert "⟨U+202E⟩" in heading(tab) and "\u202e" not in tab.locator("body").inner_text()
        for summary in tab.locator("summary").all():
            summary.click()
        assert tab.locator("img").count() == 0 and tab.locator("script").count() == 2
        cells = tab.locator(".args code").all_inner_texts()
        assert cells[2:] == ["n", str(2**70), "f", "1.0"]
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_token_says_its_id_and_label(visit, tokenizer_folder):
    tab = visit("tokens")
    tokenizer = load_tokenizer(tokenizer_folder)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tab.locator("#text span.stop").last.hover()
    assert tab.locator("#tip").inner_text() == f'"<|im_end|>"\nid {stop}\nlabel {stop}'
    tab.locator("#text span.prompt").first.hover()
    assert tab.locator("#tip").inner_text().endswith("label -100, not trained")


def test_no_records_and_no_script(visit, browser, folder):
    tab = visit("empty")
    assert "no records" in tab.locator("#detail").inner_text()
    still = browser.new_page(java_script_enabled=False)
    still.goto((folder / "tokens.html").as_uri())
    assert "xlam data show" in still.locator("noscript").inner_text()
    still.close()


def test_phone_width_does_not_overflow(visit):
    tab = visit("tokens")
    tab.set_viewport_size({"width": 390, "height": 800})
    search(tab, HOSTILE[:30])
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
