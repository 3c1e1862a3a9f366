"""A language model in the place of a real one: writes pairs as the prompt asks, and judges them."""

import json
import re
import zlib


def functions_in(text):
    part = text.split("The functions:\n", 1)[1]
    found = []
    for line in part.splitlines():
        if not line.startswith("{"):
            break
        found.append(json.loads(line))
    return found


def scripted(text):
    """A generator that follows the prompt for the most part, and a judge that dislikes numbers that end in 3."""
    if "Query: " in text:
        bad = re.search(r"number \d*3$", text.split("Query: ")[1].split("\n")[0]) is not None
        return json.dumps({"thought": "a three" if bad else "fine", "pass": "no" if bad else "yes"})
    tools, count = functions_in(text), int(re.search(r"Write (\d+) diverse pairs", text)[1])
    number = zlib.crc32(text.encode()) % 97
    if number % 5 == 0:
        return "I cannot do that."
    pairs = []
    for k in range(count):
        n = number + 7 * k
        values = {
            "item": "tea",
            "currency": "USD",
            "prices": [n, 2],
            "weight": n,
            "days": 2,
            "seconds": 0,
            "copies": n,
        }
        values |= {"number": n, "zone": f"Europe/Oslo {n}", "count": n + 1, "body": [str(n)]}

        def call(tool, values=values):
            return {
                "name": tool["name"],
                "arguments": {p: values[p] for p in tool["parameters"] if p in values},
            }

        if "The answers are an empty list" in text:
            answers = []
        elif "several things at once" in text:
            answers = [
                call(tools[0]),
                call(tools[0], {**values, "item": "mug", "number": n + 1, "weight": n + 1}),
            ]
        elif "belong together" in text:
            answers = [call(t) for t in tools[:2]]
        else:
            answers = [call(tools[0])]
        said = json.dumps([a["arguments"] for a in answers])
        pairs.append({"query": f"Please see to {said} for me, number {n}", "answers": answers})
    if number % 7 == 0 and pairs[0]["answers"]:
        pairs[0]["answers"][0]["arguments"]["invented"] = 1
    return f"Here you are:\n```json\n{json.dumps({'pairs': pairs})}\n```"
