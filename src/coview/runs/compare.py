"""Several runs side by side: what differs, how it went, and what the figures prove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from coview.core.errors import CoviewError, DamagedFile, InvalidValue, RunError
from coview.core.figures import FIGURES
from coview.core.metrics import (
    difference_in_words,
    holm_of,
    metric_of,
    p_in_words,
    paired_in_words,
)
from coview.core.options import takes
from coview.core.paths import local_path
from coview.core.places import Kind, place_of, split_pattern
from coview.core.progress import say
from coview.core.run_folder import RunFolder, is_run, read_object
from coview.core.text import duration, plural
from coview.evaluation import Outcomes, mean_interval, paired_permutation_test
from coview.evaluation.statistics import one_sided, with_holm
from coview.options import CompareOptions
from coview.reports import write_run_comparison
from coview.reports.evaluation import caveats
from coview.reports.records import number, part
from coview.reports.results import (
    by_interest,
    comparison_rows,
    first,
    headline_of,
    headline_row,
    short_source,
    title_of,
)
from coview.reports.run_comparison import KNN, FigureNote
from coview.runs.duration import durations_of
from coview.runs.find import FOUND, Rows, row_of
from coview.runs.subjects import distinct_names

SEED = "recipe.seed"
MADE_FROM = ("kind", "start", "teacher")
TRAINING_IMAGES = "data.images"
"""Their number varies a little with the seed, which also chooses the images that are held out."""
WHOLE_TEST = frozenset({"knn", "linear", "logistic", "sgd-linear"})
"""Protocols whose outcomes are of all test images as they are. Others may draw, by the seed of the
evaluation, which images are asked and how they are changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigure:
    """The figure that represents a protocol in one run, and what it was tested on.

    ``asked``: the values of the setting that the protocol represents itself by. ``source``: of the
    test images. ``train`` is the fingerprint of the images that neighbors and probe training came
    from, ``train_part`` their source and number. ``seed``: of the evaluation, None where its
    outcomes are of the same images for every seed. ``tested_on``: the test images in words.
    ``caveats``: sentences on why the figure says less than it seems to.
    """

    run: str
    protocol: str
    title: str
    metric: str
    layer: str
    setting: Mapping[str, Any]
    value: float
    interval: tuple[float, float] | None
    test: str
    source: str = ""
    train: str = ""
    train_part: tuple[str, int] = ("", 0)
    asked: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    tested_on: str = ""
    caveats: tuple[str, ...] = ()
    outcomes: Outcomes | None = field(default=None, repr=False)

    @property
    def question(self) -> str:
        """Equal where two figures of a protocol answer one question."""
        return repr((self.metric, self.layer, sorted(self.asked.items())))


class Compared(Rows):
    """One flat dict per run, as :func:`coview.runs.find` gives them, each with a "name".

    ``differences``: the fields of recipe and data that are not equal in all, and their values by
    the name of the run. ``figures``: those of the evaluations. ``tests``: paired tests of the first
    run against others. ``seeds``: means of runs that differ by their seed alone. ``recipes``: tests
    of the first of these means against others over the same seeds. ``notes``: which figures are
    no comparison, since their images are not the same. ``path``: of the page.
    """

    differences: Mapping[str, Mapping[str, Any]]
    figures: Sequence[RunFigure]
    tests: Sequence[dict[str, Any]]
    seeds: Sequence[dict[str, Any]]
    recipes: Sequence[dict[str, Any]]
    notes: Sequence[FigureNote]
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": list(self), "differences": self.differences,
            "figures": [
                {name: getattr(figure, name) for name in FIGURE_FIELDS} for figure in self.figures
            ],
            "tests": list(self.tests), "seeds": list(self.seeds),
            "recipes": list(self.recipes), "notes": [asdict(note) for note in self.notes],
            "path": None if self.path is None else str(self.path),
        }  # fmt: skip

    def sentences(self) -> list[str]:
        """The paired tests, the means over seeds and their tests, in words."""
        return [
            *map(paired_sentence, self.tests), *map(seed_sentence, self.seeds),
            *map(recipe_sentence, self.recipes),
        ]  # fmt: skip


FIGURE_FIELDS = (
    "run", "protocol", "title", "metric", "layer", "setting", "value", "interval", "test",
)  # fmt: skip


@takes(CompareOptions)
def compare(options: CompareOptions) -> Compared:
    """Several runs as rows, also runs that are going; ``out`` writes a page with their curves.

    Each run's row is that of :func:`coview.runs.find`. Figures are those that represent each
    protocol, never the best. Two runs are tested by their outcomes where their evaluations have the
    same training and test images; the p values cover the choice of the test images, those of
    several tests are corrected by Holm's procedure. Runs of full length that differ
    by their seed alone give a mean with its 95 % interval (Student), which covers the choice of
    seeds; two such means over the same seeds are tested by their differences, seed by seed.
    Raises RunError where one is no run, InvalidValue for fewer than two.

    >>> import coview
    >>> rows = coview.compare(["runs/scenes", "runs/scenes-finetune"])
    >>> [row["kind"] for row in rows], "recipe.name" in rows.differences
    (['pretrain', 'finetune'], True)
    """
    given = options.runs
    words = list(given) if isinstance(given, list | tuple) else [given]
    words = [each for word in words for each in matches(word)]
    runs = [each if isinstance(each, RunFolder) else RunFolder.open(each) for each in words]
    if len({run.path.resolve() for run in runs}) < max(2, len(runs)):
        raise InvalidValue("`runs` are fewer than two different runs; expected two or more.")
    out = options.out
    names = distinct_names([run.path.resolve().name for run in runs], [run.path for run in runs])
    rows = Compared({"name": name, **row_of(run)} for name, run in zip(names, runs, strict=True))
    rows.differences = differences_of(
        [{**row, **_asked(run)} for row, run in zip(rows, runs, strict=True)]
    )
    rows.figures = [
        figure for name, run in zip(names, runs, strict=True) for figure in figures_of(name, run)
    ]
    rows.tests = paired_tests(rows.figures)
    whole = {name for name, run in zip(names, runs, strict=True) if _has_its_length(run)}
    rows.seeds = seed_means([row for row in rows if row["name"] in whole], rows.figures)
    rows.recipes = recipe_tests(rows.seeds)
    rows.notes = [*figure_notes(rows.figures), *held_out_notes(rows, runs, rows.figures)]
    if out is not None:
        rows.path = write_run_comparison(
            out, dict(zip(names, (run.path for run in runs), strict=True)),
            differences=rows.differences, notes=rows.notes, sentences=rows.sentences(),
        )  # fmt: skip
        say(f"Comparison: {rows.path}")
    return rows


def matches(word: Any) -> list[Any]:
    """The folders of runs that a pattern matches, by name; any other word alone.

    Raises RunError for a pattern without a run.
    """
    if not isinstance(word, str | Path) or place_of(word).kind is not Kind.PATTERN:
        return [word]
    folder, parts = split_pattern(local_path(word))
    runs = sorted(path for path in folder.glob("/".join(parts)) if is_run(path))
    if not runs:
        raise RunError(f"No run matches {word}.")
    return runs


PLANNED = ("recipe.epochs", "recipe.schedule.warmup_epochs")


def _asked(run: RunFolder) -> dict[str, str]:
    """Of a run with a budget: the time that was asked for in place of the epochs that the first
    plan had in it, which are a guess by the speed of the first steps."""
    try:
        budget = durations_of(run.description)[-1].budget
    except (CoviewError, KeyError):
        return {}
    return {} if budget is None else dict.fromkeys(PLANNED, f"those of {duration(budget)}")


def _has_its_length(run: RunFolder) -> bool:
    """Whether the steps are those of the recipe: no budget or extension has changed them."""
    try:
        return run.total_steps == run.description.get("total_steps")
    except CoviewError:
        return False


def differences_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The fields of recipe and data that are not equal in all rows: their values by run.

    >>> differences_of([{"name": "a", "recipe.seed": 0}, {"name": "b", "recipe.seed": 1}])
    {'recipe.seed': {'a': 0, 'b': 1}}
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    same_data = len({row.get("data.fingerprint") for row in rows}) == 1
    return {
        key: {row["name"]: row.get(key) for row in rows}
        for key in keys
        if not (key == TRAINING_IMAGES and same_data)
        if key.startswith(("recipe.", "data.")) or key in (*MADE_FROM, "total_steps")
        if any(row.get(key) != rows[0].get(key) for row in rows)
    }


def figures_of(name: str, run: RunFolder) -> Iterator[RunFigure]:
    """The figure that represents each protocol in the folder of a run; damaged files are said."""
    evaluations = {}
    for path in run.evaluation_paths:
        try:
            evaluations[path] = read_object(path) or {}
        except DamagedFile as error:
            say(f"{path} is left out: {error}")
    for evaluation in by_interest(evaluations.values()):
        try:
            table = comparison_rows(evaluation.get("results"))
            if table:
                row = headline_row(table, headline_of(evaluation))
                yield _figure(name, evaluation, first(row))
        except TypeError as error:
            path = next(path for path, each in evaluations.items() if each is evaluation)
            say(f"{path} is left out: {error}")


def _figure(name: str, evaluation: Mapping[str, Any], result: Mapping[str, Any]) -> RunFigure:
    interval, outcomes = result.get("interval"), part(result, "outcomes")
    ends = [number(end) for end in interval] if isinstance(interval, list) else []
    low, high = ends if len(ends) == 2 else (None, None)
    setting, data = part(result, "setting"), part(evaluation, "data")
    train, test = part(data, "train"), part(data, "test")
    keys = headline_of(evaluation).keys() - {"metric", "layer"}
    protocol = str(evaluation.get("protocol"))
    return RunFigure(
        run=name, protocol=protocol, title=title_of(evaluation),
        metric=str(result.get("metric", "accuracy")), layer=str(result.get("layer")),
        setting=setting, asked={key: setting.get(key) for key in keys},
        value=float(result["value"]),
        interval=None if low is None or high is None else (low, high),
        test=str(test.get("fingerprint", "")), source=str(test.get("source", "")),
        tested_on=_tested_on(test.get("images"), test.get("source")),
        caveats=tuple(map(str, caveats(evaluation))),
        train=str(train.get("fingerprint", "")),
        train_part=(str(train.get("source", "")), int(number(train.get("images")) or 0)),
        seed=None if protocol in WHOLE_TEST else part(evaluation, "card").get("seed"),
        outcomes=Outcomes(**outcomes) if outcomes else None,
    )  # fmt: skip


def _tested_on(images: Any, source: Any) -> str:
    """As "300 images of cifar-test"."""
    count = number(images)
    return f"{plural(int(count), 'image')} of {short_source(source)}" if count and source else ""


def figure_notes(figures: Sequence[RunFigure]) -> list[FigureNote]:
    """Which figures of a protocol are of other images than those beside them, and which have
    caveats; figures with one reason share a note.

    Where the test images are the same, those that neighbors and probe training come from count.
    """
    reasons: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for title in dict.fromkeys(figure.title for figure in figures):
        own = [each for each in figures if each.title == title and each.test]
        tested = {each.run: (each.test, each.tested_on) for each in own}
        learned = {each.run: (each.train, _tested_on(*each.train_part[::-1])) for each in own}
        for what, images in (
            ("not on the same test images", tested),
            ("not with the same training images", learned),
        ):
            if len({fingerprint for fingerprint, _ in images.values()}) > 1:
                names = {words for _, words in images.values()}
                text = (
                    f"{what}: {names.pop()} each, but others: no comparison of the runs."
                    if len(names) == 1
                    else f"{what} ({_by_images(images)}): no comparison of the runs."
                )
                reasons.setdefault((tuple(images), text), []).append(title)
                break
    for figure in figures:
        for text in figure.caveats:
            reasons.setdefault(((figure.run,), f"of {figure.run}: {text}"), []).append(figure.title)
    return [
        FigureNote(runs=runs, titles=tuple(titles), text=text)
        for (runs, text), titles in reasons.items()
    ]


def held_out_notes(
    rows: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder], figures: Sequence[RunFigure]
) -> list[FigureNote]:
    """That figures of held-out images, measured while training, are of other data in each run.

    Neighbors while training are shown of a run without ``figures`` alone.
    """
    notes, evaluated = [], {figure.run for figure in figures}
    for title, own in (
        (FIGURES[FOUND].label, [row for row in rows if FOUND in row]),
        (
            KNN,
            [
                row
                for row, run in zip(rows, runs, strict=True)
                if row["name"] not in evaluated and _has_knn(run)
            ],
        ),
    ):
        data = {
            row["name"]: (str(row["data.fingerprint"]), short_source(row.get("data.source")))
            for row in own
            if row.get("data.fingerprint")
        }
        if len({fingerprint for fingerprint, _ in data.values()}) > 1:
            images = _by_images(data)
            text = f"each on images of its own data ({images}): no comparison of the runs."
            notes.append(FigureNote(runs=tuple(data), titles=(title,), text=text))
    return notes


def _has_knn(run: RunFolder) -> bool:
    try:
        return any(row["kind"] == "knn" for row in run.metrics())
    except CoviewError:
        return False


def _by_images(images: Mapping[str, tuple[str, str]]) -> str:
    """The runs by what they were judged on, as "a, b: 300 images of cifar-test; c: ..."."""
    runs: dict[tuple[str, str], list[str]] = {}
    for run, key in images.items():
        runs.setdefault(key, []).append(run)
    return "; ".join(f"{', '.join(own)}: {words or '?'}" for (_, words), own in runs.items())


def paired_tests(figures: Sequence[RunFigure]) -> list[dict[str, Any]]:
    """The first run with outcomes of a protocol against each other one on the same images.

    Of each test "p" is that of :func:`paired_permutation_test`; of several "p_holm" is corrected by
    Holm's procedure over all ``"tests"`` of them.
    """
    tests = []
    for protocol in dict.fromkeys(figure.protocol for figure in figures):
        own = [each for each in figures if each.protocol == protocol and each.outcomes is not None]
        for second in own[1:]:
            one = own[0]
            assert one.outcomes is not None
            assert second.outcomes is not None
            same = (one.test, one.train, one.question, one.seed, one.outcomes.count) == (
                second.test, second.train, second.question, second.seed, second.outcomes.count,
            )  # fmt: skip
            if one.test and same:
                tests.append({
                    "protocol": protocol, "title": one.title, "first": one.run,
                    "second": second.run, "metric": one.metric,
                    "difference": one.value - second.value,
                    "p": paired_permutation_test(one.outcomes.array(), second.outcomes.array()),
                    "images": one.outcomes.count,
                })  # fmt: skip
    return with_holm(tests)


def seed_means(
    rows: Sequence[Mapping[str, Any]], figures: Sequence[RunFigure]
) -> list[dict[str, Any]]:
    """Mean and 95 % interval over runs that differ by their seed alone, each of its full length."""

    def made(row: Mapping[str, Any]) -> str:
        fields = {
            key: value
            for key, value in row.items()
            if key.startswith(("recipe.", "data.")) or key in MADE_FROM
        }
        for key in (SEED, TRAINING_IMAGES):
            fields.pop(key, None)
        return repr(sorted(fields.items(), key=lambda item: item[0]))

    seeds = {row["name"]: row.get(SEED) for row in rows}
    means = []
    for _, group in groupby(sorted(rows, key=made), key=made):
        members = list(group)
        if len({row.get(SEED) for row in members}) < len(members) or len(members) < 2:
            continue
        names = [row["name"] for row in members]
        for protocol in dict.fromkeys(figure.protocol for figure in figures):
            own = [each for each in figures if each.protocol == protocol and each.run in names]
            kinds = {(each.question, each.source, each.train_part) for each in own}
            if len(own) < 2 or len(kinds) > 1:
                continue
            values = [each.value for each in own]
            (kind,) = kinds
            means.append({
                "protocol": protocol, "title": own[0].title, "metric": own[0].metric,
                "runs": [each.run for each in own], "mean": sum(values) / len(values),
                "interval": _possible(mean_interval(values), own[0].metric),
                "values": {str(seeds[each.run]): each.value for each in own},
                "tested_on": kind,
            })  # fmt: skip
    return means


def recipe_tests(means: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first mean of a protocol against each other one over the same seeds and test images.

    Runs of one seed are a pair. "p" is two-sided, of Student's t over the differences; of several
    tests "p_holm" is corrected by Holm's procedure.
    """
    tests = []
    for protocol in dict.fromkeys(mean["protocol"] for mean in means):
        one, *others = [mean for mean in means if mean["protocol"] == protocol]
        for other in others:
            alike = one["tested_on"] == other["tested_on"]
            if not alike or one["values"].keys() != other["values"].keys():
                continue
            differences = [value - other["values"][seed] for seed, value in one["values"].items()]
            tests.append({
                "protocol": protocol, "title": one["title"], "metric": one["metric"],
                "first": one["runs"], "second": other["runs"], "seeds": len(differences),
                "difference": sum(differences) / len(differences),
                "p": min(1.0, 2 * min(one_sided(differences, 0.0))),
            })  # fmt: skip
    return with_holm(tests)


def _possible(interval: tuple[float, float], metric: str) -> list[float]:
    """The part of an interval that values of the metric can have: no share leaves 0 to 1."""
    if metric_of(metric).format != "share":
        return list(interval)
    return [min(max(end, 0.0), 1.0) for end in interval]


def paired_sentence(test: Mapping[str, Any]) -> str:
    """A paired test in words.

    >>> paired_sentence({"title": "kNN accuracy", "first": "a", "second": "b", "metric": "accuracy",
    ...     "difference": 0.021, "p": 0.003, "images": 10_000})
    'kNN accuracy: a is 2.1 points above b, p = 0.003 (paired permutation test on 10,000 images).'
    """
    words = difference_in_words(test["metric"], test["difference"])
    return f"{test['title']}: {test['first']} is {words} {test['second']}, {paired_in_words(test)}."


def seed_sentence(mean: Mapping[str, Any]) -> str:
    """A mean over seeds in words.

    >>> seed_sentence({"title": "kNN accuracy", "metric": "accuracy", "runs": ["a", "b", "c"],
    ...     "mean": 0.9, "interval": [0.652, 1.0]})
    'kNN accuracy over 3 seeds: mean 90.0 %, 95 % interval 65.2 to 100.0 % (a, b, c).'
    """
    low, high = mean["interval"]
    runs = f"{len(mean['runs'])} seeds"
    names = ", ".join(mean["runs"])
    if metric_of(mean["metric"]).format == "share":
        figure = f"{100 * mean['mean']:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    else:
        figure = f"{mean['mean']:.3g}, 95 % interval {low:.3g} to {high:.3g}"
    return f"{mean['title']} over {runs}: mean {figure} ({names})."


def recipe_sentence(test: Mapping[str, Any]) -> str:
    """A test of two means over seeds in words.

    >>> recipe_sentence({"title": "kNN accuracy", "metric": "accuracy", "first": ["a", "b"],
    ...     "second": ["c", "d"], "seeds": 2, "difference": 0.021, "p": 0.03})
    'kNN accuracy, seed by seed: a, b are 2.1 points above c, d, p = 0.03 (t-test over 2 seeds).'
    """
    p, over = holm_of(test)
    first, second = (", ".join(test[side]) for side in ("first", "second"))
    words = difference_in_words(test["metric"], test["difference"])
    how = f"t-test over {test['seeds']} seeds{over and f', {over}'}"
    return f"{test['title']}, seed by seed: {first} are {words} {second}, {p_in_words(p)} ({how})."
