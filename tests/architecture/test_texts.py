"""The prose rules of docs/contributing.md that a search for words can check."""

import re

from tests.architecture.texts import texts

DIALECT = re.compile(
    r"(?i)\b(anew|nobody|somebody|whoever|shall|of before|held to|is to be|owed|likewise|young|"
    r"the one before|exclude each other|vice versa|a person should know|"
    r"(?:is|are|was|were) (?:told|asked)|tells|says? that)\b"
)


def test_no_text_uses_a_word_that_the_rules_exclude() -> None:
    assert [f"{place}: {text}" for place, text in texts() if DIALECT.search(text)] == []


def test_messages_options_and_comments_of_recipes_are_among_the_texts() -> None:
    found = list(texts())
    for part in ("does not exist; ", "Number of samples", "stepfold run"):
        assert any(part in text for _, text in found), part
    assert any(place.startswith("flows/recipes/") for place, _ in found)
