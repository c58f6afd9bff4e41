"""What is printed as a command, or names an option, can be typed as it is printed."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

import coview
from coview import options as kinds
from coview.cli import main
from coview.cli.options import parse
from coview.cli.verbs import VERBS
from coview.recipes.changes import CHANGES

SOURCE = Path(coview.__file__).parent
PLACES = ("diagnosis", "planning", "runs", "reports")
FIELDS = {
    field.name
    for kind in vars(kinds).values()
    if dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind)
}
COMMAND = re.compile(r"\bcoview ((?!import\b)[a-z]+)((?: (?:--[a-z-]+|'[^']*'|[^\s`'.,;:()]\S*))*)")
WORDS = {"LABELED": "labeled", "IMAGES": "images", "RUN": "run", "DATA": "data"}


def texts():
    """(place, text) of every text that these packages can print; holes of f-strings are "{}"."""
    for package in PLACES:
        for path in sorted((SOURCE / package).glob("*.py")):
            tree = ast.parse(path.read_text())
            docs = {id(node.body[0].value) for node in ast.walk(tree)
                    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
                    and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
            inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
                     for part in node.values}  # fmt: skip
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    if id(node) not in docs | inner:
                        yield f"{path.name}:{node.lineno}", node.value
                elif isinstance(node, ast.JoinedStr):
                    parts = (getattr(part, "value", None) for part in node.values)
                    text = "".join(p if isinstance(p, str) else "{}" for p in parts)
                    yield f"{path.name}:{node.lineno}", text


def test_every_command_in_a_text_is_one_of_the_verbs_with_its_options():
    seen = 0
    for place, text in texts():
        for verb, rest in COMMAND.findall(text):
            assert verb in VERBS, (place, text)
            fields = {
                f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(VERBS[verb].options)
            }
            asked = re.findall(r"--[a-z-]+", rest)
            assert set(asked) <= fields, (place, text)
            seen += 1
    assert seen > 5


def test_every_option_that_a_text_names_is_one():
    seen = 0
    for place, text in texts():
        for name in re.findall(r"(?<!`)`([a-z_]+)`(?!`)", text):
            assert name in FIELDS | set(CHANGES) | set(VERBS), (place, text)
            seen += 1
    assert seen > 30


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("of mine") / "my run"
    words = ["pretrain", "scenes", "--limit", "100", "--size", "8", "--epochs", "1", "--batch", "16",
             "--encoder", "resnet18/8-small", "--device", "cpu", "--out", str(folder)]  # fmt: skip
    assert main(words) == 0
    return folder


def test_commands_of_a_run_that_has_ended_can_be_typed(ended, capsys):
    """A folder whose name has spaces: the words are those that a shell makes of the line."""
    assert main(["resume", str(ended)]) == 2
    said = capsys.readouterr().err
    longer = re.search(r"coview resume .* --epochs \d+", said)
    assert longer, said
    words = shlex.split(longer[0])[1:]
    parse(VERBS["resume"].options, "resume", words[1:])
    words[words.index("--epochs") + 1] = "2"
    assert main(words) == 0
    printed = capsys.readouterr().out
    commands = [line[line.index("coview ") :] for line in printed.splitlines() if "coview " in line]
    assert {command.split()[1] for command in commands} == {"evaluate", "resume"}
    for command in commands:
        _, verb, *words = (WORDS.get(word, word) for word in shlex.split(command))
        assert str(ended) in words
        parse(VERBS[verb].options, verb, words)
