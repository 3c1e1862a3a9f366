"""What `xlam plan --compile-for` prints beside the plan."""

from __future__ import annotations

from typing import Any

from xlam_jax.cli.common import out, print_table

GIB = 2**30


def show_compiled(r: dict[str, Any]) -> None:
    """Tables of the compiled step; `r` is the command's whole result."""
    c = r["compiled_for"]
    memory, planned = c["memory"], r["memory"]
    state = planned["weights"] + planned["optimizer"] + planned["batch"]
    rows = [
        ("state and batch", state, memory["arguments"]),
        ("temporaries", planned["total"] - state, memory["temporaries"] + memory["outputs"]),
        ("together", planned["total"], memory["total"]),
    ]
    seconds = c["seconds"]
    out.print(
        f"compiled for {c['device']} ({c['topology']}, flags {c['profile']}, attention {c['attention']['backend']}: "
        f"{c['attention']['reason']}) in {seconds['lower'] + seconds['compile']:.0f} s, "
        f"{c['hlo_bytes'] / 1e6:.2f} MB of HLO",
        highlight=False,
    )
    print_table(
        "memory of one device, by the plan and by the compiler",
        [
            {
                "part": part,
                "plan GiB": a / GIB,
                "compiler GiB": b / GIB,
                "plan / compiler": a / b if b else 0.0,
            }
            for part, a, b in rows
        ],
    )
    print_table("kernels", [{"kernel": name, **counts} for name, counts in c["kernels"].items()])
    p = c["products"]
    print_table(
        "products of a step, in TFLOP of one device",
        [{"": name, "TFLOP": p[name] / 1e12, "of the needed": f"{p[name] / p['needed']:.1%}"} for name in p],
    )
    attention = ", ".join(f"{stage} {runs:g}" for stage, runs in c["attention_runs"].items())
    out.print(f"attention kernels run: {attention}", highlight=False)
    if c["collectives"]:
        print_table(
            "collectives, received by one device",
            [
                {
                    "collective": row["collective"],
                    "devices": row["devices"],
                    "over": row["over"],
                    "asynchronous": row["asynchronous"],
                    "run": row["run"],
                    "GB": row["received"] / 1e9,
                    "ms": row["seconds"] * 1e3,
                    "ms waited": row["waited"] * 1e3,
                }
                for row in c["collectives"]
            ],
        )
    print_table(
        "at the roofline, by part of the model",
        [
            {
                "part": row["part"],
                "pass": row["pass"],
                "kind": row["kind"],
                "run": row["run"],
                "TFLOP": row["flops"] / 1e12,
                "GB": row["bytes"] / 1e9,
                "ms": row["seconds"] * 1e3,
            }
            for row in c["parts"][:16]
        ],
    )
    roof = c["roofline"]
    share = (
        r["flops"]["total"]
        * r["step"]["tokens"]
        / r["devices"]
        / (roof["seconds"] * r["hardware"]["ceiling"])
    )
    out.print(
        f"roofline of the compiled step: {roof['busy'] * 1e3:.1f} ms of kernels, each at the slower of "
        f"{r['hardware']['ceiling'] / 1e12:.0f} TFLOP/s and {r['hardware']['bandwidth'] / 1e12:.2f} TB/s, and "
        f"{roof['waited'] * 1e3:.1f} ms of collectives that nothing hides: {roof['seconds'] * 1e3:.1f} ms, "
        f"{share:.1%} of the ceiling by the model's own FLOPs",
        highlight=False,
    )
