"""Class names: numbers in order, and classes by name, synonym or number."""

import pytest

from pipeline.class_names import find_class, in_order, match_classes, names_to_record
from pipeline.errors import ConfigError, DataError

SHARKS = ("tench, Tinca tinca", "crane", "maillot", "maillot, tank suit", "crane")


def test_names_are_in_numeric_order_only_if_all_are_numbers() -> None:
    assert in_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert in_order(["10", "9", "a"]) == ["10", "9", "a"]
    with pytest.raises(DataError, match="classes 01 and 1 are the same number; rename"):
        in_order(["1", "2", "01"])


def test_numbers_from_0_in_order_are_not_recorded() -> None:
    assert names_to_record(("0", "1")) == names_to_record(("00", "01")) == ()
    for names in (("1", "2"), ("1", "0"), ("a",)):
        assert names_to_record(names) == names


def test_a_class_is_found_by_name_synonym_or_number() -> None:
    assert [find_class(text, SHARKS, 5, "--label") for text in ("Tinca tinca", "maillot", "4")] == [
        *(0, 2, 4)
    ]
    assert find_class("tank suit", SHARKS, 5, "--label") == 3
    assert find_class(" 1 ", (), 2, "--label") == 1
    assert find_class("10", ("1", "10"), 2, "--label") == 1


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("crane", SHARKS, "--label crane: classes 1, 4 have this name; give the number"),
        ("cat", ("dog", "hen"), "--label cat: .* dog, hen, or a number of classes 0 to 1"),
        ("2", ("dog", "hen"), "--label 2: .*use one of dog, hen"),
        ("-1", (), "--label -1: .*classes 0 to 1; give"),
        ("cat", (), "--label cat: .*classes 0 to 1; give"),
        ("0", ("1", "2"), r"--label 0: .*use one of 1, 2$"),
    ],
)
def test_an_unknown_or_ambiguous_class_is_refused(
    text: str, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_class(text, names, 2, "--label")


def test_classes_of_data_are_matched_by_name_or_else_by_number() -> None:
    assert match_classes(("cat", "dog"), ("dog", "cat, feline"), "t") == (1, 0)
    assert match_classes(("0", "1"), ("1", "0"), "t") == (1, 0)
    assert match_classes(("00", "01"), ("dog", "cat"), "t") == (0, 1)
    assert match_classes(("0", "1"), (), "t") == (0, 1)


@pytest.mark.parametrize(
    ("names", "teacher", "message"),
    [
        (("cat", "horse"), ("dog", "cat"), "named horse, but t has 2 classes, named dog; name"),
        (("1", "2"), ("dog", "cat"), "named 1, 2, but t has 2 classes, named dog, cat; name"),
        (("cat", "feline"), ("dog", "cat, feline"), "named cat, feline, but .* named dog; name"),
        (("cat", "dog"), (), "named cat, dog, but t has 2 classes, numbers only; .* 0 to 1"),
        (("1", "2"), (), "named 1, 2, but t has 2 classes, numbers only; .* 0 to 1"),
    ],
)
def test_classes_that_are_not_the_teachers_are_refused_with_both_lists(
    names: tuple[str, ...], teacher: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        match_classes(names, teacher, "t")
