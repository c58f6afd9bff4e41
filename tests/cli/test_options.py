import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from coview.cli.options import as_settings, parse
from coview.cli.verbs import VERBS
from coview.core.errors import InvalidValue, UnknownName
from coview.core.options import OTHER_WORDS, argument, as_options, option, takes
from coview.options import PretrainOptions, SweepOptions


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example verb."""

    data: str = argument("the images")
    learning_rate: float | None = option("the peak")
    epochs: int = option("passes", 10)
    out: Path | None = option("where to")
    download: bool = option("allow", False)


def test_values_are_typed():
    found = parse(Example, "try", ["x", "--learning-rate", "3e-1", "--out", "a/b", "--download"])
    assert found == Example(data="x", learning_rate=0.3, out=Path("a/b"), download=True)


def test_defaults_hold_where_nothing_is_said():
    assert parse(Example, "try", ["x"]) == Example(data="x", epochs=10)


def test_wrong_type_is_one_sentence_naming_option_and_value():
    with pytest.raises(InvalidValue) as caught:
        parse(Example, "try", ["x", "--learning-rate", "abc"])
    assert str(caught.value).startswith("--learning-rate was given 'abc'; expected a number.")
    assert "\n" not in str(caught.value)


def test_unknown_option_gets_the_nearest():
    with pytest.raises(UnknownName, match="--learning-rate"):
        parse(Example, "try", ["x", "--lerning-rate", "3"])


@pytest.mark.parametrize("word", ["--lr", "--base_lr=3", "--LR", "-lr"])
def test_option_of_other_programs_gets_ours(word):
    with pytest.raises(UnknownName, match="Did you mean '--learning-rate'"):
        parse(Example, "try", ["x", word])


@pytest.mark.parametrize("word", ["--batch-size", "--nosuch"])
def test_option_without_one_of_its_meaning_gets_none(word):
    with pytest.raises(UnknownName) as caught:
        parse(Example, "try", ["x", word, "3"])
    assert "Did you mean" not in str(caught.value)


def test_words_of_other_programs_mean_options_that_exist():
    fields = {field.name for verb in VERBS.values() for field in dataclasses.fields(verb.options)}
    assert set(OTHER_WORDS.values()) <= fields


def test_missing_argument_is_one_sentence():
    with pytest.raises(InvalidValue, match="DATA"):
        parse(Example, "try", [])


def test_abbreviations_are_not_guessed():
    with pytest.raises((UnknownName, InvalidValue)):
        parse(Example, "try", ["x", "--epo", "3"])


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as left:
        parse(Example, "try", ["--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "--learning-rate" in text
    assert "the peak" in text
    assert text.count("options:") == 1


def test_spinning_is_limited_unless_the_user_has_said_otherwise(monkeypatch):
    from coview.cli.main import share_cores

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_function_takes_what_the_command_takes():
    @takes(Example)
    def run(options):
        return options

    words = ["x", "--learning-rate", "0.3", "--download"]
    assert run("x", learning_rate=0.3, download=True) == parse(Example, "try", words)
    assert run(data="x", epochs=4.0).epochs == 4
    with pytest.raises(UnknownName, match="'learning_rate'"):
        run("x", lerning_rate=0.3)
    with pytest.raises(InvalidValue, match="`data` is missing: the images"):
        run(epochs=3)
    with pytest.raises(InvalidValue, match="takes data without a name"):
        run("x", 3)


def test_fields_in_backticks_are_spelled_as_options():
    sentence = "Raise `learning_rate`, look at `data`, not `nosuch`."
    assert as_options(sentence, Example) == "Raise --learning-rate, look at DATA, not `nosuch`."


def test_fields_in_backticks_are_spelled_as_settings_where_there_is_no_such_option():
    text = "Use `batch_size` 1,024, `warmup_epochs`, `seed` 3, `limit` 7 or `nosuch`."
    assert as_settings(text, PretrainOptions, SweepOptions) == (
        "Use --set batch_size=1024, --set schedule.warmup_epochs, `seed` 3, `limit` 7 or `nosuch`."
    )


def test_the_files_of_a_folder_are_answered_with_the_folder(tmp_path):
    files = [tmp_path / f"{place}.jpg" for place in range(3)]
    for file in files:
        file.touch()
    with pytest.raises(InvalidValue, match=f"^Several files .* give their folder, {tmp_path}"):
        parse(Example, "try", [str(file) for file in files])
    with pytest.raises(InvalidValue, match=r"^'b' and 1 more are too many arguments; see coview"):
        parse(Example, "try", ["a", "b", "c"])
    with pytest.raises(InvalidValue, match=r"^'b' is one argument too many; see coview try --help"):
        parse(Example, "try", ["a", "b"])


def test_whole_numbers_may_be_written_as_floats_and_no_others():
    assert parse(Example, "try", ["x", "--epochs", "1e2"]).epochs == 100
    assert parse(Example, "try", ["x", "--epochs", "32.0"]).epochs == 32
    assert parse(Example, "try", ["x", "--epochs", str(2**62 + 1)]).epochs == 2**62 + 1
    for words in (["--epochs", "1.5"], ["--epochs", "inf"], ["--learning-rate", "nan"]):
        with pytest.raises(InvalidValue, match="expected a"):
            parse(Example, "try", ["x", *words])
