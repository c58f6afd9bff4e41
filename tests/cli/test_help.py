"""The options of every verb are frozen: a new one shows in tests/cli/options.txt.

    python tests/cli/test_help.py      writes the file again

A setting of a recipe hardly ever needs an option of its own: `--set` reaches every field.
"""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coview.cli import main
from coview.cli.verbs import VERBS
from coview.core.options import flag, is_positional
from coview.options import CommandOptions, TrainingCommandOptions

STORED = Path(__file__).with_name("options.txt")


def listing():
    lines = []
    kinds = {
        "VERB: every command": CommandOptions,
        "pretrain, finetune, distill, resume": TrainingCommandOptions,
    }
    kinds |= {f"{name}: {verb.summary}": verb.options for name, verb in VERBS.items()}
    for title, kind in kinds.items():
        lines.append(f"coview {title}")
        for field in dataclasses.fields(kind):
            meta = field.metadata
            spelled = field.name.upper() if is_positional(field) else flag(field.name)
            words = [spelled, *meta.get("also", ())]
            default = "" if field.default in (None, "", (), False) else f" [{field.default}]"
            lines.append(f"    {', '.join(words)}: {meta['help']}{default}")
    return "\n".join(lines) + "\n"


def test_options_are_those_stored():
    same = STORED.read_text() == listing()
    assert same, "the options have changed: python tests/cli/test_help.py writes them again"


@pytest.mark.parametrize("name", VERBS)
def test_help_names_every_option_of_the_verb(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    verb = VERBS[name]
    for field in (*dataclasses.fields(verb.options), *dataclasses.fields(verb.command)):
        spelled = field.name.upper() if is_positional(field) else flag(field.name)
        assert spelled in text
    assert not re.search(r"`[a-z_]+`", text), "a field in backticks is not spelled as an option"


def test_help_is_made_without_torch():
    code = (
        "import sys; from coview.cli import main\n"
        "try: main(['finetune', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    STORED.write_text(listing())
