"""Made-up credentials are dropped, given ones kept; a word list flags or drops what it names."""

import pytest

from xlam_jax.errors import InputError
from xlam_jax.format.record import Record
from xlam_jax.records.quality.inappropriate import inappropriate_words
from xlam_jax.records.quality.rules import RuleConfig, Rules

KEY = "sk-" + "a1B2c3D4e5" * 3


def row(arguments, query="What is the price of ETH?", before=(), tool=None, thought=""):
    properties = {name: {"type": "string", "description": "d"} for name in arguments} | (tool or {})
    tools = [
        {"name": "price", "description": "d", "parameters": {"type": "object", "properties": properties}}
    ]
    steps = [*before, {"thought": thought, "tool_calls": [{"name": "price", "arguments": arguments}]}]
    return Record.from_json({"id": "1", "query": query, "tools": tools, "steps": steps})


LOGIN = {"tool_calls": [], "thought": "One moment.", "user_input": "My token is a9b8c7d6e5f4."}
RANDOM = "a1B2c3D4e5" * 4
# Put together here, so that nobody's scanner takes this file for a leak.
TOKENS = [
    *(f"{start}_{RANDOM}" for start in ("hf", "npm", "gsk", "r8", "dop_v1", "sk_" + "live", "sk_" + "test")),
    *(f"ya29.{RANDOM}", f"glpat-{RANDOM[:20]}", f"SG.{RANDOM[:22]}.{RANDOM}"),
]
INVENTED = [
    *(row({"note": token}) for token in TOKENS),
    *(row({"symbol": "ETH"}, thought=f"I use {token}.") for token in TOKENS),
    row({"api_key": 12345678901}),
    row({"credentials": "a9b8c7d6e5f4"}),
    row({"api_key": "abc123"}),
    row({"apiKey": "YOUR_API_KEY"}),
    row({"X-RapidAPI-Key": "0123456789abcdef0123"}),
    row({"access_token": "eyJhbGciOi.tok"}),
    row({"token": "a9b8c7d6e5f4"}),
    row({"token": "<your token>"}),
    row({"key": "your_api_key"}),
    row({"appid": "ABCD1R-9XE111U22W"}),
    row({"appId": "0f3a9c1d7b5e"}),
    row({"authorization": f"Bearer {KEY}"}),
    row({"note": KEY}),
    row({"headers": {"Authorization": "Bearer a9b8c7d6e5f4"}}, tool={"headers": {"type": "object"}}),
    row({"symbol": "ETH"}, thought=f"I use {KEY}."),
]
GIVEN = [
    row({"token": "ETH"}),
    row({"token": "ethereum-classic"}),
    row({"key": "C# minor"}),
    row({"key": "name"}),
    row({"api_key": "abc123"}, query="Price of ETH, my key is ABC123"),
    row({"authorization": f"Bearer {KEY}"}, query=f"Price of ETH with {KEY}"),
    row({"token": "a9b8c7d6e5f4"}, before=[LOGIN]),
    row({"api_key": "demo"}, tool={"api_key": {"type": "string", "default": "demo"}}),
    row({"token": "$var1.token$"}, before=[{"tool_calls": [{"name": "price", "arguments": {}}]}]),
    row({"max_tokens": "1000000000a"}),
    row({"appId": "com.acme.game2"}),
    row({"app_id": "440"}),
    row({"appid": "ABCD1R-9XE111U22W"}, query="Price of ETH, my AppID is ABCD1R-9XE111U22W"),
    row({"keyboard": "a9b8c7d6e5f4"}),
    *(row({"note": token}, query=f"Price of ETH, with {token}") for token in TOKENS),
    row({"api_key": 12345678901}, query="Price of ETH, my key is 12345678901"),
    row({"credentials": "none"}),
    row({"amount": 12345678901}, query="Price of 12345678901 ETH"),
    row({"note": "hf_text_generation_and_other_words_of_a_name"}),
]


@pytest.mark.parametrize("record", INVENTED)
def test_a_secret_that_nobody_gave_is_dropped(record):
    kept, entry = Rules(RuleConfig()).apply(record)
    assert kept is None and entry.reason == "invented_secret"
    flag = RuleConfig.model_validate({"actions": {"invented_secret": "flag"}})
    assert "flagged:invented_secret" in Rules(flag).apply(record)[0].lineage


@pytest.mark.parametrize("record", GIVEN)
def test_a_secret_that_was_given_stays(record):
    kept, entry = Rules(RuleConfig()).apply(record)
    assert kept is not None and "invented_secret" not in entry.detail, entry


def test_words_are_flagged_dropped_or_left_alone(tmp_path):
    rude, kind = row({"symbol": "ETH"}, query="What the FUCK is ETH worth?"), row({"symbol": "ETH"})
    said = Record.from_json(
        {"id": "2", "query": "Hi", "tools": [], "steps": [{"thought": "Go kill yourself!"}]}
    )
    for action, kept in (("off", True), ("flag", True), ("drop", False)):
        rules = Rules(RuleConfig.model_validate({"actions": {"inappropriate": action}}))
        for record in (rude, said):
            made, entry = rules.apply(record)
            assert (made is not None) == kept and (entry.reason == "inappropriate") == (action != "off")
        assert rules.apply(kind)[0] == kind
    # Whole words only, and none that a recipe or a hospital needs.
    for text in (
        "Scunthorpe, Essex",
        "chicken breast",
        "the assessment of a cocktail",
        "sex and weight of the dog",
    ):
        assert not inappropriate_words(row({"symbol": "x"}, query=text)), text
    own = tmp_path / "words.txt"
    own.write_text("# mine\nETH worth\nblorf\n")
    rules = Rules(RuleConfig.model_validate({"actions": {"inappropriate": "drop"}, "word_list": str(own)}))
    assert rules.apply(row({}, query="What is eth, WORTH-wise?"))[0] is None
    assert rules.apply(row({}, query="Blorf!"))[0] is None and rules.apply(said)[0] is not None
    for text in (None, "# nothing\n"):
        own = tmp_path / f"{text is None}.txt"
        if text:
            own.write_text(text)
        with pytest.raises(InputError, match="word list"):
            Rules(RuleConfig(word_list=str(own))).apply(rude)
