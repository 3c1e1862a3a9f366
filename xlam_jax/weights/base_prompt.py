"""What a folder's own chat template makes of a conversation, rendered where it can do no harm.

A template is a program of somebody else's: it may never end, and print without end. So another process renders it,
with a deadline, and a text that is too long is not shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xlam_jax.weights.tokenizer_files import TOOLS_NAME, named_templates, read_chat_template, special_tokens

SECONDS, CHARACTERS = 10, 20_000
_CHILD = """
import json, signal, sys
from transformers.utils.chat_template_utils import render_jinja_template

asked = json.load(sys.stdin)
signal.alarm(asked.pop("seconds"))
(text,), _ = render_jinja_template(**asked, add_generation_prompt=True)
print(json.dumps([text[:int(sys.argv[1])], len(text)]))
"""


def rendered(
    folder: Path, messages: Sequence[Any], tools: Sequence[Any], seconds: int = SECONDS
) -> tuple[str, str]:
    """What transformers makes of a conversation by the folder's template, in a process of its own.

    Args:
      messages, tools: as `apply_chat_template` takes them.
      seconds: that the template may take; importing transformers is not counted.

    Returns:
      the text and "", or "" and why there is none.
    """
    template = named_templates(folder).get(TOOLS_NAME) or read_chat_template(folder)
    asked = {"conversations": [messages], "tools": tools, "chat_template": template, "seconds": seconds}
    try:
        run = subprocess.run(
            [sys.executable, "-c", _CHILD, str(CHARACTERS)],
            input=json.dumps({**special_tokens(folder), **asked}),
            capture_output=True,
            encoding="utf-8",
            timeout=seconds + 120,  # for the import, on a slow disk
        )
        text, length = json.loads(run.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return "", "it did not end"
    except (ValueError, IndexError):
        if run.returncode < 0:
            return "", f"it did not end in {seconds} seconds"
        return "", (run.stderr.strip().splitlines() or ["unknown"])[-1].partition(":")[0].rpartition(".")[2]
    return ("", f"it is {length:,} characters long") if length > CHARACTERS else (text, "")
