"""Which runbook fits what people see: ranked by words, and each rank explained by the words that made it.

Okapi BM25 over tokens that are stemmed in a simple way. Nothing is guessed: a word that no runbook has matches nothing,
and a runbook that no word matches is not named.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..api.runbook import RunbookSpec

#: How much a word counts where it was found. Symptoms are what runbooks' owners wrote to be found by.
WEIGHTS = {"symptoms": 3.0, "title": 2.0, "incidentType": 2.0, "findings": 2.0, "history": 1.0}
#: BM25's usual constants: how fast a repeated word stops to count, and how much longer texts are held back.
_K1, _B = 1.2, 0.75
_WORD = re.compile(r"[^\W_]+(?:[._'-][^\W_]+)*")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+|\d+")
_SAYS_NOTHING = (
    "a an and any are as at be been but by can cannot can't could do does don't for from had has have if in into is it "
    "its no not of on or our out so some than that the their them then there they this to too up was we were what when "
    "which while who will with won't you your"
)
_COMMON = frozenset(_SAYS_NOTHING.split())
_ENDINGS = (
    *(("sses", "ss"), ("ies", "y"), ("ied", "y"), ("ures", ""), ("ure", "")),
    *(("ing", ""), ("ed", ""), ("es", ""), ("s", "")),
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A runbook that could be named. Shape: `reasons` are the findings that its checks can make."""

    kind: str
    name: str
    namespace: str = ""
    spec: RunbookSpec
    reasons: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """What it is found by: where it stands, and the text."""
        spec = self.spec
        found = [("symptoms", text) for text in spec.symptoms]
        found += [("title", spec.title), ("incidentType", spec.incident_type)]
        found += [("findings", reason) for reason in dict.fromkeys(self.reasons)]
        for past in spec.history:
            found += [("history", text) for text in (past.title, past.root_cause, past.resolution, past.impact) if text]
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Match:
    """Words of the question that a text has. Shape: `where` is a key of `WEIGHTS`."""

    where: str
    text: str
    words: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A runbook that some word matches, and why."""

    candidate: Candidate
    score: float
    matches: tuple[Match, ...]


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """The answer: best first. Shape: `unmatched` are words that no runbook has, `common` those that say nothing."""

    ranked: tuple[Suggestion, ...]
    unmatched: tuple[str, ...]
    common: tuple[str, ...]


def stem(token: str) -> str:
    """Return a lower-case token without the commonest English endings; short ones stay as they are."""
    for ending, instead in _ENDINGS:
        if token.endswith(ending) and len(token) - len(ending) >= 3 and not token.endswith("ss"):
            token = token.removesuffix(ending) + instead
            break
    doubled = len(token) > 3 and token[-1] == token[-2] and token[-1] in "bdgmnprt"
    token = token[:-1] if doubled else token
    return token.removesuffix("e") if len(token) > 3 else token


def tokens(word: str) -> tuple[str, ...]:
    """Return the stems that a word stands for: itself, and the parts of `AccessDenied` or `time-out`."""
    parts = _PART.findall(word)
    whole = re.sub(r"[\W_]", "", word).lower()
    found = [stem(whole), *(stem(part.lower()) for part in parts if len(part) > 1 and part.lower() not in _COMMON)]
    return tuple(dict.fromkeys(found))


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def suggest(question: str, candidates: Sequence[Candidate]) -> Suggestions:
    """Rank the runbooks for what somebody sees. Deterministic: equal scores are told by kind, namespace and name."""
    asked = {word: tokens(word) for word in dict.fromkeys(_words(question))}
    common = tuple(word for word in asked if word.lower() in _COMMON)
    asked = {word: stems for word, stems in asked.items() if word not in common}
    indexed = [_Indexed(candidate) for candidate in candidates]
    average = sum(one.length for one in indexed) / len(indexed) if indexed else 1.0
    wanted = dict.fromkeys(token for stems in asked.values() for token in stems)
    weight = {token: _rarity(sum(token in one.weights for one in indexed), len(indexed)) for token in wanted}
    ranked = []
    for one in indexed:
        matches = one.matches(asked)
        if matches:
            score = sum(weight[token] * one.saturated(token, average) for token in wanted)
            ranked.append(Suggestion(candidate=one.candidate, score=round(score, 4), matches=matches))
    ranked.sort(key=lambda s: (-s.score, s.candidate.kind, s.candidate.namespace, s.candidate.name))
    unmatched = tuple(word for word, stems in asked.items() if not any(one.has(stems) for one in indexed))
    return Suggestions(ranked=tuple(ranked), unmatched=unmatched, common=common)


def _rarity(found_in: int, of: int) -> float:
    return math.log(1 + (of - found_in + 0.5) / (found_in + 0.5))


class _Indexed:
    """A runbook's texts as weighted tokens."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.weights: dict[str, float] = {}
        self._texts: list[tuple[str, str, frozenset[str]]] = []
        for where, text in candidate.texts:
            found = [token for word in _words(text) if word.lower() not in _COMMON for token in tokens(word)]
            self._texts.append((where, text, frozenset(found)))
            for token in found:
                self.weights[token] = self.weights.get(token, 0.0) + WEIGHTS[where]
        self.length = sum(self.weights.values())

    def has(self, stems: Sequence[str]) -> bool:
        """Tell whether any of these stems is there."""
        return any(token in self.weights for token in stems)

    def saturated(self, token: str, average: float) -> float:
        """Return how much a token counts here."""
        found = self.weights.get(token, 0.0)
        return found * (_K1 + 1) / (found + _K1 * (1 - _B + _B * self.length / average))

    def matches(self, asked: dict[str, tuple[str, ...]]) -> tuple[Match, ...]:
        """Return the texts that have words of the question, those with the heaviest first."""
        found = [
            Match(where=where, text=text, words=words)
            for where, text, known in self._texts
            if (words := tuple(word for word, stems in asked.items() if known.intersection(stems)))
        ]
        return tuple(sorted(found, key=lambda m: -WEIGHTS[m.where] * len(m.words)))
