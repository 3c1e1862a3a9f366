"""The run folder as one page: `report.html`, which needs no other file, no network and no script."""

from __future__ import annotations

import importlib.resources
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from xlam_jax.files import write_text
from xlam_jax.plots import Points, line_chart
from xlam_jax.training.run_folder import EVENTS, MANIFEST, RUN, read_lines, read_metrics

REPORT = "report.html"
_LAST_EVENTS = 200
# Title -> keys of metrics.jsonl that share axes.
_CHARTS = {
    "loss": ("loss", "eval_loss"),
    "gradient norm": ("grad_norm",),
    "learning rate": ("lr",),
    "tokens per second": ("tokens_per_second", "target_tokens_per_second"),
    "seconds of a step": ("step_seconds",),
    "model TFLOP/s of a device": ("tflops_per_device",),
    "MFU": ("mfu",),
    "memory, GiB": ("device_gib", "rss_gib"),
    "accuracy": ("accuracy", "eval_accuracy", "eval_ast"),
    "goodput": ("goodput",),
}
_OWN = {key for keys in _CHARTS.values() for key in keys}
_NO_CHART = {"step", "seconds", "epoch", "padded_tokens_per_second", "skipped"}


def write_report(run: str | Path) -> Path:
    """Writes `RUN/report.html` from what lies in the run folder, whatever of it is there."""
    run = Path(run)
    path = run / REPORT
    write_text(path, page(run))
    return path


def page(run: Path) -> str:
    """The page as text. Everything a file says is escaped."""
    rows, events = read_metrics(run), read_lines(run / EVENTS)
    steps = sorted(int(p.name) for p in (run / "checkpoints").glob("*") if p.name.isdigit())
    best = _json(run / "best.json")
    sections = [
        *(_section(title, chart) for title, chart in _charts(rows)),
        *_layer_norms(rows),
        _section("how FLOPs are counted", _flops(_json(run / RUN))),
        _section("checkpoints", _checkpoints(steps, best)),
        _section("events (times are UTC)", _events(events), whole=True),
        _section("training data", _table(_manifest_facts(_json(run / MANIFEST)))),
        _section("versions", _table(_flat(_json(run / "versions.json")))),
        _section("config", f"<pre>{escape(_text(run / 'config.yaml'))}</pre>", whole=True),
    ]
    template = importlib.resources.files("xlam_jax.training").joinpath(REPORT).read_text("utf-8")
    return Template(template).substitute(
        title=escape(f"Run {run.name}"),
        about=escape(_about(events)),
        facts=_facts(rows, events, _json(run / RUN), best),
        sections="\n".join(s for s in sections if s),
    )


def _facts(rows: list[dict], events: list[dict], run: dict, best: dict) -> str:
    last = next((row for row in reversed(rows) if "loss" in row), {})
    evals: dict[str, Any] = {}
    for row in rows:
        evals |= {k: v for k, v in row.items() if k.startswith("eval_")}
    done = max((e["step"] for e in events if e.get("step") is not None), default=0)
    facts = {
        "steps": f"{max(done, last.get('step', 0))} of {run.get('total_steps', '?')}",
        "loss": last.get("loss"),
        **evals,
        "best": f"{best['metric']} {_number(best['value'])} at {best['step']}" if best else None,
        "epoch": last.get("epoch"),
        "tokens per second": last.get("tokens_per_second"),
        "seconds of a step": last.get("step_seconds"),
        "TFLOP/s of a device": last.get("tflops_per_device"),
        "MFU": f"{100 * last['mfu']:.1f} %" if "mfu" in last else None,
        "device memory": f"{last['device_gib']:.1f} GiB" if "device_gib" in last else None,
        "goodput": f"{100 * last['goodput']:.1f} %" if "goodput" in last else None,
        "skipped steps": sum(e["event"] == "skipped" for e in events) or None,
    }
    return "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_number(value))}</dd></div>"
        for key, value in facts.items()
        if value is not None
    )


def _charts(rows: list[dict]) -> list[tuple[str, str]]:
    others = {k: (k,) for row in rows for k in row if k not in _OWN | _NO_CHART and not k.endswith("_norms")}
    return [
        (title, _chart({key: _points(rows, key) for key in keys}))
        for title, keys in {**_CHARTS, **others}.items()
    ]


def _points(rows: list[dict], key: str) -> Points:
    return [
        (row["step"], math.nan if row[key] is None else float(row[key]))
        for row in rows
        if isinstance(row.get(key, ""), int | float | None)
    ]


def _chart(series: dict[str, Points], x_label: str = "step") -> str:
    series = {name: points for name, points in series.items() if points}
    if not (chart := line_chart(series, x_label=x_label)):
        return ""
    key = "".join(f'<span class="c{i % 4}">{escape(name)}</span>' for i, name in enumerate(series))
    return chart + (f'<p class="key">{key}</p>' if len(series) > 1 else "")


def _layer_norms(rows: list[dict]) -> list[str]:
    """The last reading, all leaves of a layer taken together."""
    sections = []
    for kind, title in (("grad_norms", "gradient norm by layer"), ("param_norms", "parameter norm by layer")):
        row = next((row for row in reversed(rows) if kind in row), None)
        stacked = [v for v in row[kind].values() if isinstance(v, list)] if row else []
        if row and stacked:
            norms = [math.sqrt(sum(x * x for x in layer)) for layer in zip(*stacked, strict=True)]
            chart = _chart({title: list(enumerate(norms))}, x_label="layer")
            sections.append(_section(f"{title}, step {row['step']}", chart))
    return sections


def _flops(run: dict) -> str:
    if "flops" not in run:
        return ""
    mfu = (
        "TFLOP/s of a device: these over the seconds of the step and the devices. MFU: its share of the peak."
    )
    return f"<p>FLOPs of a step: {escape(run['flops'])}.</p><p>{mfu}</p>"


def _checkpoints(steps: Sequence[int], best: dict) -> str:
    def row(step: int) -> dict[str, str]:
        words = [f"best {best['metric']} {_number(best['value'])}"] if best.get("step") == step else []
        return {"step": str(step), "": ", ".join(words + (["last"] if step == steps[-1] else []))}

    return _rows([row(step) for step in steps])


def _events(events: list[dict]) -> str:
    def row(event: dict) -> dict[str, str]:
        rest = {k: v for k, v in event.items() if k not in ("time", "event", "step")}
        words = "; ".join(
            f"{k} {', '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in rest.items()
        )
        step = "" if event.get("step") is None else str(event["step"])
        return {"time": _time(event), "event": str(event.get("event", "")), "step": step, "": words}

    return _rows([row(e) for e in events[-_LAST_EVENTS:]], of="event")


def _rows(rows: list[dict[str, str]], of: str = "") -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(key)}</th>" for key in rows[0])

    def line(row: dict[str, str]) -> str:
        kind = f' class="{escape(row[of])}"' if of else ""
        return f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>"

    return f'<div class="wide"><table><tr>{head}</tr>{"".join(map(line, rows))}</table></div>'


def _table(facts: dict[str, Any]) -> str:
    lines = [f"<tr><th>{escape(k)}</th><td>{escape(_number(v))}</td></tr>" for k, v in facts.items()]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _section(title: str, body: str, whole: bool = False) -> str:
    """A panel; over the whole width when `whole`."""
    wide = ' class="whole"' if whole else ""
    return f"<section{wide}><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _manifest_facts(manifest: dict) -> dict[str, Any]:
    keys = ("rows", "records", "tokens", "target_tokens", "padding", "fill_percent", "seq_len", "fingerprint")
    facts = {key: manifest[key] for key in keys if key in manifest}
    more = {
        key: manifest[key] for key in ("codec", "tokenizer", "sources") if isinstance(manifest.get(key), dict)
    }
    shards = {"shards": len(manifest["shards"])} if "shards" in manifest else {}
    return {**facts, **shards, **_flat(more)}


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _about(events: list[dict]) -> str:
    if not events:
        return ""
    last, sessions = events[-1], sum(e["event"] in ("started", "resumed") for e in events)
    times = "1 session" if sessions == 1 else f"{sessions} sessions"
    return f"{last['event']} {_time(last)} UTC; first started {_time(events[0])}, {times}"


def _time(event: dict) -> str:
    return str(event.get("time", ""))[:16].replace("T", " ")


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or isinstance(value, int) else f"{value:.4g}"


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


def _json(path: Path) -> dict[str, Any]:
    return json.loads(_text(path) or "{}")
