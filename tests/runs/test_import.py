"""Files of the user: own objectives, methods and recipes, from a command to a resumed run."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import coview
from coview.cli import main
from coview.core import user_code
from coview.core.errors import InvalidValue, UnknownName, UnknownValue
from coview.core.user_code import files_of, import_files
from coview.methods import METHODS, register_method
from coview.recipes import RECIPES, find_recipe, list_recipes, recipe, register_recipe
from coview.runs.run import Run
from small_run import SMALL, pictures

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"
SOURCE = next(block for block in GUIDE.read_text().split("```") if "register_method" in block)
SOURCE = SOURCE.removeprefix("python\n")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(user_code, "IMPORTED", {})
    path = tmp_path / "mine.py"
    path.write_text(f"# {tmp_path}\n{SOURCE}")  # a file of its own for each test
    yield path
    METHODS.pop("loud", None)
    RECIPES.pop("loud-cpu", None)


def pretrain(tmp_path, **settings):
    images, _ = pictures(64)
    return coview.pretrain(images, out=tmp_path / "run", epochs=1, **{**SMALL, **settings})


def forget(file):
    """As in a new process, which executes the file again."""
    user_code.IMPORTED.clear()
    sys.modules.pop(user_code.PREFIX + user_code.hash_file(file))


def test_file_makes_a_method_and_a_recipe_words(file):
    import_files([file])
    assert METHODS["loud"](32).objective.factor == 2.0
    assert recipe("loud-cpu").method.name == "loud"
    assert list_recipes("loud") == {"loud": ["loud-cpu"]}


def test_run_with_an_own_objective_goes_on_and_is_used(file, tmp_path):
    run = pretrain(tmp_path, recipe="loud", import_=file)
    (record,) = run.description["imports"]
    assert record == {"file": str(file), "hash": user_code.hash_file(file)}
    metrics = run.metrics("step")
    run.verdict_path.unlink()
    forget(file)
    images, labels = pictures(64)
    assert coview.resume(run.path, data=images).metrics("step") == metrics
    assert type(Run(run.path).recipe.method.objective).__name__ == "Louder"
    assert coview.load(run.path).features == 64
    assert coview.evaluate(run.path, (images, labels), protocols="knn", limit=60)
    assert coview.embed(run.path, images, limit=2).num_rows == 2


def test_recipe_of_a_run_takes_its_file_along(file, tmp_path):
    first = pretrain(tmp_path, recipe="loud-cpu", import_=[file])
    value = find_recipe(first.path)
    assert files_of(replace(value, seed=1)) == first.description["imports"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(lambda file: file.write_text("1"), "has changed since the run began"),
     (lambda file: file.unlink(), "cannot be read: No such file"),
     (lambda file: (file.parent / "run.json").write_text("{}"), "folder of a run")],
)  # fmt: skip
def test_file_that_changed_or_is_gone_is_one_sentence(file, tmp_path, change, sentence, capsys):
    describe(tmp_path / "run", file)
    change(file)
    with pytest.raises(InvalidValue, match=f"made with a file of yours.*{sentence}.*`import_`"):
        Run.open(tmp_path / "run").recipe  # noqa: B018
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert "--import" in capsys.readouterr().err


def test_file_that_has_moved_is_named_by_the_option(file, tmp_path):
    describe(tmp_path / "run", file)
    moved = file.rename(tmp_path / "moved.py")
    import_files([moved])
    assert Run.open(tmp_path / "run").recipe.name == "loud-cpu"


def describe(folder, file):
    """A run.json of a run with the file's recipe."""
    from coview.core.values import encode

    imports = import_files([file])
    forget(file)
    folder.mkdir()
    description = {
        "recipe": encode(recipe("loud-cpu")), "hash": "", "start": None, "imports": imports,
        "data": {
            "source": "x", "images": 1, "held_out": 1, "fingerprint": "", "parts": "",
            "class_names": [],
            "opened": {"images": {}, "test": None, "labels": "100%", "label_draw": 0},
        },
        "environment": {"precision": "fp32"}, "chance_level": 1.0, "steps_per_epoch": 1,
        "total_steps": 1, "created": "",
    }  # fmt: skip
    Run(folder).write_description(description)


@pytest.mark.parametrize("place", ["mine.py", "/proc/self/cwd/mine.py"])
def test_place_that_depends_on_the_working_folder_is_not_executed(file, monkeypatch, place):
    monkeypatch.chdir(file.parent)
    record = {"file": place, "hash": user_code.hash_file(file)}
    with pytest.raises(InvalidValue, match="is not executed"):
        user_code.import_again([record])


def test_file_that_this_user_has_never_named_is_not_executed(file, tmp_path, monkeypatch):
    monkeypatch.setenv("COVIEW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(user_code, "AGREED", set())
    monkeypatch.setattr(user_code, "IMPORTED", {})
    record = {"file": str(file), "hash": user_code.hash_file(file)}
    with pytest.raises(InvalidValue, match=r"not named it on this machine.*`import_`"):
        user_code.import_again([record])
    user_code.import_files([str(file)])
    user_code.AGREED.clear()  # as in another process
    assert user_code.import_again([record])


def test_edited_file_gives_the_class_of_the_run(file, tmp_path):
    describe(tmp_path / "run", file)
    (tmp_path / "new.py").write_text(file.read_text().replace("2.0", "3.0"))
    import_files([tmp_path / "new.py"])
    objective = Run.open(tmp_path / "run").recipe.method.objective
    assert type(objective).__module__.endswith(user_code.hash_file(file))


def test_commands_take_the_file(file, capsys):
    assert main(["recipes", "loud-cpu", "--import", str(file)]) == 0
    assert '"type": "Louder"' in capsys.readouterr().out


def test_names_of_coview_stay(file):
    def simclr(size):
        raise NotImplementedError

    with pytest.raises(InvalidValue, match="a method 'simclr' already"):
        register_method(simclr)
    simclr.__name__ = "simclr_cpu"
    with pytest.raises(InvalidValue, match="a recipe 'simclr-cpu' already"):
        register_recipe(simclr)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("1 / 0", "raises ZeroDivisionError"), ("import nosuch_module", "raises ModuleNotFoundError")],
)
def test_file_that_raises_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "mine.py").write_text(content)
    with pytest.raises(InvalidValue, match=sentence):
        pretrain(tmp_path, import_=tmp_path / "mine.py")
    assert not (tmp_path / "run").exists()


def test_file_of_another_kind_is_one_sentence(tmp_path):
    (tmp_path / "mine.txt").write_text("1")
    with pytest.raises(InvalidValue, match=r"ends in \.py"):
        import_files([tmp_path / "mine.txt"])


def test_class_that_is_missing_is_asked_for(file, tmp_path):
    describe(tmp_path / "run", file)
    description = {**Run(tmp_path / "run").description, "imports": []}
    text = json.dumps(description).replace("Louder", "Quieter")
    Run(tmp_path / "other").path.mkdir()
    Run(tmp_path / "other").write_description(json.loads(text))
    with pytest.raises(UnknownValue, match="name the file that defines it by `import_`"):
        Run.open(tmp_path / "other").recipe  # noqa: B018
    with pytest.raises(UnknownName, match="There is no recipe"):
        find_recipe("loud-nosuch")
