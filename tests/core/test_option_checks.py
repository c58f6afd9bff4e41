"""Mistakes in options that are seen before anything is loaded: one sentence each."""

import sys

import pytest

from coview.cli import main
from coview.cli.verbs import VERBS
from coview.core.errors import InvalidValue, RunError, UnknownName
from coview.core.option_checks import IMAGE_NAMES, NETWORK, NETWORKS, check_options
from coview.core.options import is_positional
from coview.embeddings.selection import STRATEGIES
from coview.embeddings.table_formats import FORMATS
from coview.options import (
    DuplicatesOptions,
    EmbedOptions,
    MapOptions,
    PredictOptions,
    ResumeOptions,
    SearchOptions,
    SelectOptions,
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """runs/photos, which is a run, encoders/small, which is an export, and photos/."""
    for folder in ("runs/photos", "encoders/small", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/photos/run.json").write_text("{}")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "encoders/small" / name).write_bytes(b"{}")
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TAKE_BOTH = [
    name
    for name, verb in VERBS.items()
    for kinds in [{f.metadata["names"] for f in verb.options.__dataclass_fields__.values()
                   if is_positional(f)}]
    if kinds & {*IMAGE_NAMES} and kinds & {NETWORK, NETWORKS}
]  # fmt: skip


def test_the_verbs_of_a_run_and_images_are_known():
    wanted = {"browse", "detect", "distill", "embed", "evaluate", "finetune", "map", "predict",
              "search", "select"}  # fmt: skip
    assert set(TAKE_BOTH) == wanted


@pytest.mark.parametrize("verb", TAKE_BOTH)
@pytest.mark.parametrize("run", ["runs/photos", "encoders/small"])
def test_arguments_in_the_wrong_order_are_said_at_once(verb, run, here, capsys, monkeypatch):
    assert main([verb, "photos", run, *(["--number", "3"] if verb == "select" else [])]) == 2
    sentence = capsys.readouterr().err
    what = "a run" if run == "runs/photos" else "an exported encoder"
    first = next(
        f.name.upper()
        for f in VERBS[verb].options.__dataclass_fields__.values()
        if is_positional(f)
    )
    assert f"{run} is {what} and photos is none; expected {first}, then " in sentence


def test_a_run_that_is_not_there_has_the_nearest_name(here):
    for words, near in (("runs/photo", "runs/photos"), ("encoders/smal", "encoders/small")):
        with pytest.raises(RunError, match=rf"exported encoder {words}\. Did you mean {near}\?$"):
            check_options(EmbedOptions(run=words, data="photos"))
    with pytest.raises(RunError, match=r"^There is no run or exported encoder elsewhere/x\.$"):
        check_options(EmbedOptions(run="elsewhere/x", data="photos"))
    with pytest.raises(RunError, match="is a file; expected the folder of a run"):
        check_options(EmbedOptions(run="photos/a.jpg", data="photos"))
    with pytest.raises(RunError, match=r"^photos is neither a run .*`run`, .* then `data`"):
        check_options(EmbedOptions(run="photos", data="photos"))
    (here / "vectors.parquet").touch()
    for options, place in ((SearchOptions(run="vectors.parquet", queries=("photos/a.jpg",)), "in_"),
                           (MapOptions(run="vectors.parquet"), "data")):  # fmt: skip
        with pytest.raises(RunError, match=rf"is a file; .* A table .* is given as `{place}`\."):
            check_options(options)
    with pytest.raises(RunError, match="Did you mean runs/photos"):
        check_options(ResumeOptions(run="runs/fotos"))
    check_options(EmbedOptions(run="runs/photos", data="photos"))


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"number": 0}, InvalidValue, "`number` is 0; expected at least 1"),
        ({"out": "x.html"}, InvalidValue, r"ends in \.csv\. A \.html file is written by `html`"),
        ({"html": "x.csv"}, InvalidValue, r"`html` is x\.csv; .* A \.csv file is written by `out`"),
        ({"html": "x.pdf"}, InvalidValue, r"`html` is x\.pdf; expected a name .*\.html\.$"),
    ],
)
def test_values_out_of_range_and_files_of_another_kind(settings, kind, sentence, here):
    with pytest.raises(kind, match=sentence):
        check_options(SearchOptions(run="runs/photos", queries=("a",), **settings))


@pytest.mark.parametrize(
    ("kind", "settings", "name"),
    [
        (EmbedOptions, {"run": "runs/photos", "data": ("scans.parquet",)}, "data"),
        (PredictOptions, {"run": "runs/photos", "data": "*.parquet"}, "data"),
        (PredictOptions, {"run": "runs/photos", "data": ["photos/a.jpg", b"scans.parquet"]}, "data"),
        (DuplicatesOptions, {"data": "photos", "test": "./photos/../scans.parquet"}, "test"),
        (SelectOptions, {"run": "runs/photos", "number": 1, "data": "link.parquet"}, "data"),
        (SelectOptions, {"run": "runs/photos", "number": 1, "labeled": ("scans.parquet",)},
         "labeled"),
    ],
)  # fmt: skip
def test_what_is_read_is_not_replaced(kind, settings, name, here):
    (here / "scans.parquet").write_bytes(b"my images")
    (here / "link.parquet").symlink_to("scans.parquet")
    with pytest.raises(InvalidValue, match=rf"`out` is scans.parquet, which `{name}` is read from"):
        check_options(kind(**settings, out="scans.parquet"))
    check_options(kind(**settings, out="other.parquet"))


def test_a_map_is_added_to_the_table_that_it_is_of(here):
    (here / "vectors.parquet").touch()
    check_options(MapOptions(run="runs/photos", data="vectors.parquet", out="vectors.parquet"))


def test_what_is_missing_and_words_that_are_no_choice(here):
    with pytest.raises(InvalidValue, match="`number` is missing; expected how many images"):
        check_options(SelectOptions(run="runs/photos"))
    with pytest.raises(UnknownName, match="Did you mean 'typical'"):
        check_options(SelectOptions(run="runs/photos", number=3, strategy="typicle"))


def test_choices_are_those_of_the_code():
    fields = SelectOptions.__dataclass_fields__
    assert set(fields["strategy"].metadata["choices"]) == set(STRATEGIES)
    assert EmbedOptions.__dataclass_fields__["format"].metadata["choices"] == FORMATS


def test_mistakes_are_answered_before_a_verb_is_loaded(here, capsys, monkeypatch):
    """The verb's module, which loads torch, is not asked for."""
    monkeypatch.setattr(sys.modules["coview"], "__getattr__", lambda name: 1 / 0)
    for words, sentence in (
        (["search", "runs/photo", "photos/a.jpg"], "Did you mean runs/photos?"),
        (["search", "runs/photos", "photos/b.jpg"], "Did you mean photos/a.jpg?"),
        (["search", "runs/photos", "photos/a.jpg", "--in", "foto"], "Did you mean photos?"),
        (["map", "runs/photos", "photos", "--out", "x.csv"], "--out is x.csv"),
        (["map", "runs/photos", "photos", "--clusters", "abc"], "--clusters is 'abc'; expected"),
    ):
        assert main(words) == 2
        assert sentence in capsys.readouterr().err
