"""Sentences about one digit in ink on paper, and what they say."""

import re
from dataclasses import dataclass

from pipeline.data.sources.demo.colours import INKS, PAPERS
from pipeline.errors import DataError

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEMPLATES = (
    "a handwritten {digit}, {ink} ink on {paper} paper",
    "the digit {digit} written in {ink} on {paper} paper",
    "{ink} {digit} on {paper}",
    "{paper} paper with a {ink} {digit}",
    "a {ink} {digit} drawn by hand on {paper} paper",
    "on {paper} paper, the number {digit} in {ink} ink",
    "a scan of the number {digit}, {ink} on {paper}",
    "handwriting in {ink} ink: the digit {digit} on {paper}",
)

WORDINGS = 2 * len(_TEMPLATES)
"""In how many ways the same is said: the templates with the digit as a word, then as a numeral."""


@dataclass(frozen=True)
class Attributes:
    """What a sentence says: the digit, and the names of its ink and paper."""

    digit: int
    ink: str
    paper: str


def say(attributes: Attributes, wording: int) -> str:
    """The sentence that says it in one of the `WORDINGS` ways, counted from 0."""
    numeral, template = divmod(wording, len(_TEMPLATES))
    digit = str(attributes.digit) if numeral else _WORDS[attributes.digit]
    return _TEMPLATES[template].format(digit=digit, ink=attributes.ink, paper=attributes.paper)


def read_attributes(text: str) -> Attributes:
    """What a sentence of `say` says.

    Raises:
        DataError: it is none.
    """
    for pattern in _PATTERNS:
        if found := pattern.fullmatch(text):
            said = found["digit"]
            digit = int(said) if said.isdecimal() else _WORDS.index(said)
            return Attributes(digit, found["ink"], found["paper"])
    raise DataError(
        f"{text!r} is no sentence of captioned_digits; say for example "
        f"{say(Attributes(7, 'red', 'white'), 0)!r}"
    )


def _pattern(template: str) -> re.Pattern[str]:
    choices = {"digit": (*_WORDS, *map(str, range(10))), "ink": INKS, "paper": PAPERS}
    groups = {name: f"(?P<{name}>{'|'.join(words)})" for name, words in choices.items()}
    return re.compile(template.format(**groups))


_PATTERNS = tuple(map(_pattern, _TEMPLATES))
