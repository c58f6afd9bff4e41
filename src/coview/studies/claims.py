"""Claims about arms of a study, written down before there are figures, and their tests.

An arm is a condition that is trained with several seeds. A claim is made of comparisons, each a
weighted sum of the arms' figures, computed seed by seed: arms are paired by the seed, and so by the
data order and the first weights. A comparison is tested by Student's t over the seeds, one-sided at
2.5 %, which is the 95 % interval that is printed.

A claim of several comparisons holds where each of them is shown: the largest p value counts, and no
correction is needed (intersection-union test). It does not hold where the opposite of one of them
is shown: the smallest p value counts, times the number of comparisons (Bonferroni). Several claims
of one study are corrected by Holm's procedure. What is neither is undecided.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from coview.core.errors import InvalidValue
from coview.core.metrics import p_digits
from coview.core.text import plural
from coview.evaluation.statistics import holm, mean_interval, one_sided
from coview.reports.formatting import MINUS, MISSING

LEVEL = 0.025
"""One-sided: the level at which a comparison is shown."""

WORDS: Mapping[bool | None, str] = {True: "holds", False: "does not hold", None: "undecided"}
"""Whether a claim holds, in words."""
NOT_YET = "not decided yet"
"""Of a claim before all runs have ended."""
FiguresOf = Callable[[str, str], Sequence[float | None]]
"""(arm, measure) -> its figure for each seed, None where there is none yet; measure "" is the first
of the study."""


@dataclass(frozen=True, slots=True)
class Term:
    """An arm with its weight in a comparison; ``measure`` "" is the first measure of the study."""

    arm: str
    weight: float = 1.0
    measure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sum of the ``terms`` is to lie above ``above``, in units of the figures.

    ``text`` names it, as "crop + color - crop".
    """

    text: str
    terms: tuple[Term, ...]
    above: float = 0.0

    def values(self, figures: FiguresOf) -> list[float]:
        """The sum for every seed whose figures are all there."""
        columns = [figures(term.arm, term.measure) for term in self.terms]
        sums = []
        for row in zip(*columns, strict=True):
            known = [value for value in row if value is not None]
            if len(known) == len(self.terms):
                pairs = zip(self.terms, known, strict=True)
                sums.append(sum(term.weight * value for term, value in pairs))
        return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence that a study tests by all of its ``comparisons``.

    ``source``: where the paper says it. Raises InvalidValue without a comparison.

    >>> Claim(text="two are better", comparisons=(greater("two", "one"),)).comparisons[0].text
    'two - one'
    """

    text: str
    comparisons: tuple[Comparison, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if not self.comparisons:
            raise InvalidValue(f"The claim {self.text!r} has no comparison; expected one or more.")


def greater(one: str, other: str, *, by: float = 0.0, measure: str = "") -> Comparison:
    """``one`` is greater than ``other`` by more than ``by``."""
    return Comparison(
        text=f"{one} - {other}{_in(measure)}", above=by,
        terms=(Term(one, 1, measure), Term(other, -1, measure)),
    )  # fmt: skip


def gain(arm: str, one: str, other: str, *, by: float = 0.0) -> Comparison:
    """In one arm the measure ``one`` is greater than the ``other`` by more than ``by``.

    >>> gain("head 64", "linear", "linear on z").text
    'head 64: linear - linear on z'
    """
    return Comparison(
        text=f"{arm}: {one} - {other}", above=by,
        terms=(Term(arm, 1, one), Term(arm, -1, other)),
    )  # fmt: skip


def _in(measure: str) -> str:
    return f" in {measure}" if measure else ""


def best(
    one: str, others: Sequence[str], *, by: float = 0.0, measure: str = ""
) -> tuple[Comparison, ...]:
    """``one`` is greater than each of the ``others``; it may be among them."""
    return tuple(greater(one, arm, by=by, measure=measure) for arm in others if arm != one)


def rising(arms: Sequence[str], *, measure: str = "", sign: int = 1) -> Comparison:
    """The figures rise along ``arms``: the slope of the least-squares line over their places.

    ``sign`` -1: they fall. The unit is that of the figures, for each step from arm to arm.

    >>> comparison = rising(["a", "b", "c"])
    >>> [term.weight for term in comparison.terms]
    [-0.5, 0.0, 0.5]
    """
    if len(arms) < 2:
        raise InvalidValue(f"`arms` is {list(arms)}; a slope needs two arms or more.")
    middle = (len(arms) - 1) / 2
    total = sum((place - middle) ** 2 for place in range(len(arms)))
    terms = tuple(
        Term(arm, sign * (place - middle) / total, measure) for place, arm in enumerate(arms)
    )
    word = "rise" if sign > 0 else "fall"
    text = f"{word} of a step from {arms[0]} to {arms[-1]}{_in(measure)}"
    return Comparison(text=text, terms=terms)


def between(
    inner: Sequence[str], ends: Sequence[str], *, measure: str = "", axis: str = ""
) -> tuple[Comparison, ...]:
    """The mean of the ``inner`` arms is greater than each of the ``ends``.

    ``axis``: what arms are that have numbers for names, which would read as a sum.

    >>> [each.text for each in between(["0.1", "0.2"], ["1"], axis="temperature")]
    ['mean of temperatures 0.1, 0.2 minus temperature 1']
    """
    mean = tuple(Term(arm, 1 / len(inner), measure) for arm in inner)
    kind, minus = (f"{axis} ", "minus") if axis else ("", "-")
    many = f"mean of {axis and f'{axis}s '}{', '.join(inner)}"
    name = f"{kind}{inner[0]}" if len(inner) == 1 else many
    return tuple(
        Comparison(
            text=f"{name} {minus} {kind}{end}{_in(measure)}",
            terms=(*mean, Term(end, -1, measure)),
        )
        for end in ends
    )


def alike(arms: Sequence[str], *, within: float, measure: str = "") -> tuple[Comparison, ...]:
    """No two of the ``arms`` differ by ``within`` or more: two one-sided tests for each pair."""
    return tuple(
        replace(greater(one, other, measure=measure), above=-within)
        for one, other in permutations(arms, 2)
    )


def smaller_gap(
    first: tuple[str, str], second: tuple[str, str], *, measure: str = ""
) -> Comparison:
    """The difference of the ``first`` two arms is smaller than that of the ``second`` two."""
    (a, b), (c, d) = first, second
    return Comparison(
        text=f"({c} - {d}) - ({a} - {b}){_in(measure)}",
        terms=tuple(
            Term(arm, weight, measure) for arm, weight in ((c, 1), (d, -1), (a, -1), (b, 1))
        ),
    )


def shrinking_gap(
    first: tuple[str, str], second: tuple[str, str], *, measure: str = ""
) -> tuple[Comparison, ...]:
    """The difference of the ``second`` two arms is above 0, and above that of the ``first`` two.

    So a disadvantage that grows is no advantage that shrinks.
    """
    return greater(*second, measure=measure), smaller_gap(first, second, measure=measure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A comparison, its ``values``, one for each seed, and their p values (:func:`one_sided`).

    ``unit``: what there is a value for, in words; ``planned``: how many of them the study has.
    """

    comparison: Comparison
    values: list[float]
    p_for: float
    p_against: float
    planned: int
    unit: str = "seed"

    @classmethod
    def of(cls, comparison: Comparison, figures: FiguresOf, unit: str) -> Finding:
        values = comparison.values(figures)
        p_for, p_against = one_sided(values, comparison.above)
        first = comparison.terms[0]
        return cls(
            comparison=comparison, values=values, p_for=p_for, p_against=p_against, unit=unit,
            planned=len(figures(first.arm, first.measure)),
        )  # fmt: skip

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean; None for fewer than two values."""
        return None if len(self.values) < 2 else mean_interval(self.values)

    def to_json(self) -> dict[str, Any]:
        return {
            "text": self.comparison.text, "above": self.comparison.above,
            "mean": statistics.fmean(self.values) if self.values else None,
            "interval": self.interval, "seeds": len(self.values), "p": self.p_for,
        }  # fmt: skip

    def __str__(self) -> str:
        """In words: "a - b is +3.2 (needed: above 2), 95 % interval +1.0 to +5.4 over 3 seeds"."""
        if not self.values:
            return f"{self.comparison.text}: no {self.unit} has all its figures"
        needed = f" ({needed_text(self.comparison.above)})" if self.comparison.above else ""
        text = f"{self.comparison.text} is {signed(statistics.fmean(self.values))}{needed}"
        if self.interval is None:
            return f"{text} for one {self.unit}, without an interval"
        low, high = (signed(end) for end in self.interval)
        some = "" if len(self.values) == self.planned else f"{len(self.values)} of "
        return f"{text}, 95 % interval {low} to {high} over {some}{plural(self.planned, self.unit)}"


def needed_text(above: float) -> str:
    """What a comparison has to be, in words.

    >>> needed_text(-2.0)
    'needed: above −2'
    """
    return f"needed: above {above:.3g}".replace("-", MINUS)


def p_text(p: float) -> str:
    """A p value in words, with more digits where it is near LEVEL.

    >>> p_text(0.01345), p_text(0.02498), p_text(1e-7), p_text(1.0)
    ('0.013', '0.02498', 'below 0.0001', '1')
    """
    return p_digits(p, LEVEL) if p >= 1e-4 else "below 0.0001"


def signed(points: float) -> str:
    """A difference with its sign, a true minus.

    >>> signed(2.345), signed(-0.04)
    ('+2.3', '−0.0')
    """
    return f"{points:+.1f}".replace("-", MINUS)


def decide(
    claims: Sequence[Claim], figures: FiguresOf, *, unit: str = "seed"
) -> list[dict[str, Any]]:
    """Each claim as an object of study.json: text, source, holds, because, p and comparisons.

    "holds" is True, False, or None where it is undecided; "p" has the adjusted values "for" and
    "against" the claim, and in words what they are "corrected" for. ``unit``: what each value of
    ``figures`` is of, where not of a seed.

    >>> claim = Claim(text="two are better than one", comparisons=(greater("two", "one"),))
    >>> figures = {"one": [60.0, 61.0, 60.5], "two": [64.0, 65.5, 64.0]}
    >>> decide([claim], lambda arm, measure: figures[arm])[0]["because"]
    'two - one is +4.0, 95 % interval +2.8 to +5.2 over 3 seeds.'
    """
    findings = [[Finding.of(each, figures, unit) for each in claim.comparisons] for claim in claims]
    all_for = holm([max(each.p_for for each in own) for own in findings])
    all_against = holm([min(1.0, len(own) * min(each.p_against for each in own))
                        for own in findings])  # fmt: skip
    decided = []
    for claim, own, p_for, p_against in zip(claims, findings, all_for, all_against, strict=True):
        holds = True if p_for < LEVEL else False if p_against < LEVEL else None
        decided.append({
            "text": claim.text, "source": claim.source, "holds": holds,
            "because": _because(own, holds, p_for, p_against, len(claims)),
            "p": {
                "for": p_for, "against": p_against, "corrected": _corrections(len(own), len(claims))
            },
            "comparisons": [each.to_json() for each in own],
        })  # fmt: skip
    return decided


def _because(
    findings: Sequence[Finding], holds: bool | None, p_for: float, p_against: float, claims: int
) -> str:
    """The comparison that decides a claim, and why an interval that looks decisive is not."""
    key = min(findings, key=lambda each: each.p_against if holds is False else -each.p_for)
    weakest = "the most against it" if holds is False else "the weakest"
    text = f"Of {len(findings)} comparisons {weakest}: {key}" if len(findings) > 1 else str(key)
    against = key.p_against < key.p_for
    alone, adjusted = (key.p_against, p_against) if against else (key.p_for, p_for)
    if holds is None and alone < LEVEL:
        several = [plural(len(findings), "comparison")] if against and len(findings) > 1 else []
        several += [plural(claims, "claim")] if claims > 1 else []
        limit = f"{key.comparison.above:.3g}".replace("-", MINUS)
        text += (
            f". Undecided although the interval is on one side of {limit}: p is {p_text(alone)} "
            f"alone, {p_text(adjusted)} corrected for {' and '.join(several)}; "
            f"needed: below {LEVEL}"
        )
    return f"{text}."


def _corrections(comparisons: int, claims: int) -> str:
    """By what the p values of a claim are corrected, "" for one claim of one comparison.

    >>> _corrections(6, 3)
    'against: Bonferroni over 6 comparisons; both: Holm over 3 claims'
    """
    parts = [f"against: Bonferroni over {comparisons} comparisons"] if comparisons > 1 else []
    parts += [f"both: Holm over {claims} claims"] if claims > 1 else []
    return "; ".join(parts)


def p_values(claim: Mapping[str, Any]) -> str:
    """The p values of a claim in words, of its object in study.json; "" where it has none.

    >>> p_values({"p": {"for": 0.5, "against": 0.01, "corrected": "both: Holm over 2 claims"}})
    'p 0.5 in favor, 0.01 against (both: Holm over 2 claims)'
    """
    p = claim.get("p")
    if not p:
        return ""
    corrected = f" ({p['corrected']})" if p.get("corrected") else ""
    return f"p {p_text(p['for'])} in favor, {p_text(p['against'])} against{corrected}"


COMPARED = ("comparison", "needed", "mean", "95 % interval", "seeds", "p")
"""The columns of :func:`comparison_rows`."""


def comparison_rows(claim: Mapping[str, Any]) -> list[list[str]]:
    """Every comparison of a claim's object in study.json; p is one-sided and not corrected."""
    rows = []
    for each in claim.get("comparisons", ()):
        ends = [signed(end) for end in each["interval"] or ()]
        rows.append([
            each["text"], needed_text(each["above"]).removeprefix("needed: "),
            MISSING if each["mean"] is None else signed(each["mean"]), " to ".join(ends) or MISSING,
            str(each["seeds"]), p_text(each["p"]),
        ])  # fmt: skip
    return rows


EARLIER = (
    "The study was decided before with these other settings. A verdict that comes after others is "
    "a further try."
)
EARLIER_COLUMNS = ("with", "runs", "claim", "verdict")


def earlier_rows(earlier: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The verdicts of the same study with other runs, of study.json's "earlier"."""
    return [
        [
            "; ".join(f"{name}: {value}" for name, value in each["with"].items()) or MISSING,
            str(each["runs"] or MISSING), claim["text"], WORDS[claim["holds"]],
        ]
        for each in earlier
        for claim in each["claims"]
    ]  # fmt: skip
