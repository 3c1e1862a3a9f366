"""Hypothesis strategies: JSON values, calls, tools and Records, with the texts that break templates."""

from hypothesis import strategies as st

from xlam_jax.format import Record, Step, ToolCall, normalise_tool

HOSTILE = (
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "</s>",
    "[INST]",
    "<|EOT|>",
    "### Response:\n",
    "[BEGIN OF QUERY]",
    "[END OF QUERY]",
    '{"tool_calls": []}',
    "{{ messages }}",
    "{% raw %}",
    "```json",
    "<b>&'\"\\",
    " \n\t",
    "žluťoučký 東京 🚲",
    "\u2028\x00\x7f",
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
texts = st.one_of(words, st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join))
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,12}", fullmatch=True)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(texts, v, max_size=3)), max_leaves=6
)
calls = st.builds(ToolCall, texts.filter(bool), st.dictionaries(texts, values, max_size=3))

kinds = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "List[float]", "any"])
parameters = st.fixed_dictionaries(
    {"type": kinds}, optional={"description": texts, "default": values.filter(lambda v: v is not None)}
)


@st.composite
def tools(draw):
    """A normalised tool; a parameter with a default is optional, as the flat spelling has it."""
    properties = draw(st.dictionaries(texts.filter(bool), parameters, max_size=3))
    required = [p for p, s in properties.items() if "default" not in s and draw(st.booleans())]
    schema = {"type": "object", "properties": properties, "required": required}
    return normalise_tool({"name": draw(names), "description": draw(texts), "parameters": schema})


steps = st.builds(
    Step,
    thought=texts,
    tool_calls=st.lists(calls, max_size=3).map(tuple),
    next_observation=values.map(lambda v: "" if v is None else v),
    user_input=texts,
)
records = st.builds(
    Record,
    id=names,
    query=texts,
    tools=st.lists(tools(), max_size=3).map(tuple),
    steps=st.lists(steps, max_size=3).map(tuple),
    task_instruction=texts,
    format_instruction=texts,
    few_shot_examples=st.lists(
        st.one_of(texts, st.dictionaries(texts, values, max_size=2), st.lists(values, max_size=2)), max_size=2
    ).map(tuple),
    source=texts,
    license=texts,
    lineage=st.lists(texts, max_size=2).map(tuple),
)
