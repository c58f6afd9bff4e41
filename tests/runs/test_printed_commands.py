"""Commands that are kept or said can be copied: words with spaces are quoted."""

import pytest

import coview
from coview.core.errors import RunError
from coview.runs.describe import command
from coview.runs.teacher import TeacherFile
from small_run import small_export


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["/bin/coview", "pretrain", "my photos"], "coview pretrain 'my photos'"),
        (["my script.py", "x"], "python 'my script.py'"),
        ([""], "python"),
    ],
)
def test_the_command_of_a_run_is_quoted(monkeypatch, words, expected):
    monkeypatch.setattr("sys.argv", words)
    assert command() == expected


def test_advice_names_a_folder_with_spaces_as_it_is_typed(tmp_path):
    folder = small_export(tmp_path / "my encoder")
    for use in (TeacherFile.at, lambda path: coview.predict(path, "scenes", limit=4)):
        with pytest.raises(RunError, match=f"coview finetune '{folder}' LABELED"):
            use(folder)
