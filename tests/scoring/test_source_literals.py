"""Java and JavaScript literals, read as the languages have them."""

from hypothesis import given
from hypothesis import strategies as st

from tests.cases import case
from tests.examples import examples
from xlam_jax.scoring.source_literals import number_suffix, read_literal

BOTH = [
    ("5", 5),
    ("-5", -5),
    ("1_000", 1000),
    ("2.5", 2.5),
    ("-3.5e2", -350.0),
    ("true", True),
    ("null", None),
    ('"a, b"', "a, b"),
    ("'it\\'s'", "it's"),
    ('"\\u0041\\n"', "A\n"),
]
JAVA = [
    ("5L", 5),
    ("1.5f", 1.5),
    ("new int[]{1, 2}", [1, 2]),
    ("new int[][]{{1}, {2, 3}}", [[1], [2, 3]]),
    ('new ArrayList<String>(Arrays.asList("a", "b"))', ["a", "b"]),
    ("new java.util.ArrayList<>()", []),
    ("List.of(1, 2L)", [1, 2]),
    ("new ArrayList<Integer>() {{ add(1); add(2); }}", [1, 2]),
    ('new HashMap<String, List<Integer>>() {{ put("k", Arrays.asList(1, 2)); put("b", true); }}',
     {"k": [1, 2], "b": True}),
    ('Map.of("a", 1)', {"a": 1}),
    ("new HashMap<>()", {}),
    ("Arrays.asList(user.name(1, 2), x)", ["user.name(1, 2)", "x"]),
    ("new Thing(1)", "new Thing(1)"),
    ('"a" + b', '"a" + b'),
    ("{1}", "{1}"),
]  # fmt: skip
JAVASCRIPT = [
    ("5n", 5),
    ("[1, [2, 'a,b']]", [1, [2, "a,b"]]),
    ("new Array(1, 2)", [1, 2]),
    ("{a: 1, 'b': [true], \"c\": null, d}", {"a": 1, "b": [True], "c": None, "d": "d"}),
    ("[x => x + 1, f(1, 2)]", ["x => x + 1", "f(1, 2)"]),
    ("{}", {}),
    ("[]", []),
    ("[1, 2", "[1, 2"),
    ("{a", "{a"),
    ("user.name", "user.name"),
    ("new Map([[1, 2]])", "new Map([[1, 2]])"),
]


def test_literals():
    for language, table in (("java", BOTH + JAVA), ("javascript", BOTH + JAVASCRIPT)):
        for text, value in table:
            with case((language, text)):
                read = read_literal(text, language)
                assert read == value and type(read) is type(value)


def test_suffixes():
    assert [number_suffix(t) for t in ("5L", "1.5f", "5n", "5", "L", "5 L")] == ["l", "f", "n", "", "", ""]


@examples(300)
@given(
    st.text(alphabet="[]{}(),:;\"'\\ab1.5Lnew <>ArrayListMp\n", max_size=40),
    st.sampled_from(["java", "javascript"]),
)
def test_any_text_is_read_to_its_end_or_kept(text, language):
    read = read_literal(text, language)
    assert isinstance(read, str | int | float | list | dict | None)


def test_deep_nesting_is_kept_as_text():
    text = "[" * 5000 + "]" * 5000
    assert read_literal(text, "javascript") == text
