"""The sandbox's verdicts: a lexical matcher over category names, descriptions and examples.

The law of this file: the same categories and input give the same scores on every machine and in every order; and
this is the only file that imports scikit-learn. Each category becomes one weighted tf-idf document (name, words of the
same meaning, description, examples); an input is compared with them by cosine, stems and meanings alike.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from sklearn.feature_extraction.text import TfidfVectorizer

from .lexicon import CATCH_ALL, CONCEPTS, GENERIC_LABELS, STOP_WORDS, WEAK_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SUFFIXES = tuple("ations ation ments ment ings ing ions ion ies ers ed es er ly s e y".split())  # noqa: SIM905
_STEM_MIN = 3
_NAME_WEIGHT, _PHRASE_WEIGHT, _CONCEPT_WEIGHT, _PROSE_WEIGHT = 4, 2, 2, 2

# Chosen so that the vendor's sample sentences get confidences like the vendor's: one clear word about 0.75,
# two about 0.95, none 1/n.
_SHARPNESS = 10.0
_LIKELY_AT, _LIKELY_SLOPE = 0.26, 12.0
_CATCH_ALL_SCORE = 0.2


@dataclass(frozen=True)
class Category:
    """A category as the API takes it: a name, and optionally prose and sample inputs."""

    name: str
    description: str | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """One category's standing for one input; confidences are in 0..1, with two decimals."""

    label: str
    position: int
    """The category's place in the request."""
    share: float
    """Confidence as the one answer: the shares of an input sum to about 1."""
    likelihood: float
    """Confidence on its own merits: independent of the other categories."""


GENERIC = tuple(Category(name, description) for name, description in GENERIC_LABELS)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The part of a word its inflections share; crude, and the same for inputs and categories."""
    word = word.replace("'", "")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _STEM_MIN:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > _STEM_MIN and word[-1] == word[-2] else word


def _build_concepts() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for concept, words in CONCEPTS.items():
        for word in words.split():
            names = found.setdefault(stem(word), [])
            if concept not in names:
                names.append(concept)
    return {word: tuple(f"~{name}" for name in names) for word, names in found.items()}


_CONCEPTS_OF = _build_concepts()


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _analyse(text: str) -> list[str]:
    """Tokens of an input: stems, pairs of neighbouring stems, and the meanings of each."""
    stems = [stem(word) for word in _words(text) if word.replace("'", "") not in STOP_WORDS]
    tokens = list(stems)
    tokens += [f"{left} {right}" for left, right in pairwise(stems)]
    for word in stems:
        tokens += _CONCEPTS_OF.get(word, ())
    return tokens


def _document(category: Category) -> list[str]:
    """Tokens of a category, each as often as it weighs."""
    name = _CAMEL.sub(" ", category.name).replace("_", " ").replace("-", " ")
    words = [word for word in _words(name) if word not in STOP_WORDS]
    stems = [stem(word) for word in words]
    tokens = [stem(word) for word in words for _ in range(1 if word in WEAK_NAMES else _NAME_WEIGHT)]
    tokens += [f"{left} {right}" for left, right in pairwise(stems)] * _PHRASE_WEIGHT
    for word in stems:
        tokens += _CONCEPTS_OF.get(word, ()) * _CONCEPT_WEIGHT
    for prose in (category.description or "", *category.examples):
        tokens += _analyse(prose) * _PROSE_WEIGHT
    return tokens


def _catches_all(category: Category) -> bool:
    return bool(CATCH_ALL & set(_words(category.name.replace("_", " ")))) or (
        category.description is not None and category.description.lower().startswith(("everything", "anything"))
    )


class Matcher:
    """Scores inputs against one category set. Pure once built; safe to share."""

    def __init__(self, categories: Sequence[Category]) -> None:
        self.labels = tuple(category.name for category in categories)
        self._floor = [_CATCH_ALL_SCORE if _catches_all(category) else 0.0 for category in categories]
        self._weights: dict[str, tuple[float, list[tuple[int, float]]]] = {}
        documents = [_document(category) for category in categories]
        if any(documents):
            vectorizer: Any = TfidfVectorizer(analyzer=cast("Any", _as_is), sublinear_tf=True)
            matrix: Any = vectorizer.fit_transform(documents).tocsc()
            for token, column in vectorizer.vocabulary_.items():
                start, end = matrix.indptr[column : column + 2]
                rows, values = matrix.indices[start:end].tolist(), matrix.data[start:end].tolist()
                self._weights[token] = (float(vectorizer.idf_[column]), list(zip(rows, values, strict=True)))

    def scores(self, text: str) -> list[float]:
        """Cosine of the text's tf-idf vector with each category's, in 0..1, with a floor for catch-alls."""
        # The same numbers as vectorizer.transform(text) @ matrix.T, which takes ten times longer for one row.
        counts: dict[str, int] = {}
        for token in _analyse(text):
            if token in self._weights:
                counts[token] = counts.get(token, 0) + 1
        scores = [0.0] * len(self.labels)
        square = 0.0
        for token, count in counts.items():
            idf, column = self._weights[token]
            weight = (1.0 + math.log(count)) * idf
            square += weight * weight
            for row, value in column:
                scores[row] += weight * value
        norm = math.sqrt(square) or 1.0
        return [max(score / norm, floor) for score, floor in zip(scores, self._floor, strict=True)]

    def rank(self, text: str) -> list[Ranked]:
        """Every category for a text, best first; equals keep the order of the request."""
        return self._ranked(self.scores(text))

    def rank_media(self, source: str) -> list[Ranked]:
        """Every category for an image, audio or video: by the words of a URL's path, else by its bytes."""
        if not source.startswith("data:"):
            scores = self.scores(unquote(urlsplit(source).path))
            if any(score > floor for score, floor in zip(scores, self._floor, strict=True)):
                return self._ranked(scores)
        return self._ranked([_fraction(source, label) * 0.6 for label in self.labels])

    def explain(self, source: str, ranked: Ranked) -> str:
        """One sentence on why the label fits, naming the input's own words that spoke for it."""
        found: list[str] = []
        for word in dict.fromkeys(_words("" if source.startswith("data:") else source)):
            hits = (self._weights.get(token, (0.0, []))[1] for token in _analyse(word))
            if any(row == ranked.position for column in hits for row, _ in column):
                found.append(f"'{word}'")
        if found:
            return f"Mentions {', '.join(found[:4])}, which points to {ranked.label}."
        return f"No word of the input points to {ranked.label} in particular."

    def _ranked(self, scores: list[float]) -> list[Ranked]:
        powers = [math.exp(_SHARPNESS * score) for score in scores]
        total = sum(powers)
        order = sorted(range(len(scores)), key=lambda position: -scores[position])
        return [
            Ranked(
                self.labels[position],
                position,
                share=round(powers[position] / total, 2),
                likelihood=round(1 / (1 + math.exp(_LIKELY_SLOPE * (_LIKELY_AT - scores[position]))), 2),
            )
            for position in order
        ]


def _as_is(tokens: list[str]) -> list[str]:
    return tokens


def _fraction(source: str, label: str) -> float:
    digest = hashlib.sha256(f"{label}\0{source}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


@lru_cache(maxsize=256)
def matcher_for(categories: tuple[Category, ...]) -> Matcher:
    """The matcher of a category set, built once; the last 256 sets are kept."""
    return Matcher(categories)
