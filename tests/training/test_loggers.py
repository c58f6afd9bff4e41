"""The figures of a run in other programs: every step once, and never a run that ends by it."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

import coview
from coview.core.errors import MissingExtra, UnknownName
from coview.training import MetricsLog
from coview.training import loggers as module
from coview.training.loggers import Loggers, RunInfo, logger_names
from small_run import SMALL, pictures


class Kept:
    """A logger that keeps what it gets in a list."""

    def __init__(self, rows):
        self.rows, self.closed = rows, False

    def log(self, step, figures):
        self.rows.append((step, dict(figures)))

    def close(self):
        self.closed = True


def info(tmp_path, created="2026-11-29T10:00:00+00:00"):
    path = tmp_path / "photos"
    settings = {"epochs": 3, "method.name": "simclr"}
    return RunInfo(path=path, folder=path / "loggers", created=created, settings=settings)


def record(tmp_path, rows, step=0):
    loggers = Loggers({"kept": lambda: Kept(rows)})
    return MetricsLog(tmp_path / "metrics.jsonl", chance_level=1.0, step=step, loggers=loggers)


def step_row(log, step):
    log.write("step", step, epoch=step / 8, loss=5.0 - step, seconds=step / 2)


def test_a_logger_gets_every_line_with_figures(tmp_path):
    rows = []
    log = record(tmp_path, rows)
    log.write("health", 0, epoch=0.0, figures={"rank": 3.5, "text": "x"}, parameter_change=None)
    step_row(log, 1)
    log.write("event", 1, text="stopped")
    log.write("knn", 1, epoch=1.0, k=10, accuracy=0.5, layer="h")
    assert rows == [
        (0, {"epoch": 0.0, "health/rank": 3.5}),
        (1, {"epoch": 0.125, "train/loss": 4.0, "train/seconds": 0.5}),
        (1, {"epoch": 1.0, "knn/k": 10.0, "knn/accuracy": 0.5}),
    ]


def test_a_run_that_goes_on_has_every_step_once(tmp_path):
    first = record(tmp_path, [])
    for step in (1, 2, 3):
        step_row(first, step)
    rows = []
    again = record(tmp_path, rows, step=2)  # the last checkpoint
    step_row(again, 3)
    assert [step for step, _ in rows] == [1, 2, 3]


def test_a_logger_that_fails_is_named_once_and_the_others_go_on(tmp_path, capsys):
    class Broken(Kept):
        def log(self, step, figures):
            raise OSError("the server\nhas gone")

    rows = []
    loggers = Loggers({"broken": lambda: Broken([]), "kept": lambda: Kept(rows)})
    log = MetricsLog(tmp_path / "metrics.jsonl", chance_level=1.0, loggers=loggers)
    step_row(log, 1)
    step_row(log, 2)
    loggers.close()
    assert [step for step, _ in rows] == [1, 2]
    said = capsys.readouterr().out
    assert said.count("The logger broken has failed") == 1
    assert "the server has gone" in said


def test_a_logger_that_cannot_be_opened_is_left_out(capsys):
    Loggers({"broken": lambda: 1 / 0}).log({"kind": "step", "step": 1, "loss": 1.0})
    assert "The logger broken has failed" in capsys.readouterr().out


def test_an_absent_package_is_a_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'coview\[wandb\]'"):
        logger_names(["wandb"])
    with pytest.raises(MissingExtra):
        coview.pretrain("nowhere", log_to="tensorboard")  # before anything is looked for


def test_names_are_separated_by_commas_or_repeated(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert logger_names(["wandb, mlflow", "wandb"]) == ("wandb", "mlflow")
    with pytest.raises(UnknownName, match="'mlflow'"):
        logger_names(["mlfow"])


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for wandb that keeps what it is given."""
    calls = []
    run = SimpleNamespace(
        log=lambda figures, step: calls.append((step, figures)), finish=lambda: calls.append("end")
    )
    fake = ModuleType("wandb")
    fake.init = lambda **settings: calls.append(settings) or run
    fake.Settings = lambda **settings: settings
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return calls


def test_wandb_is_offline_and_has_one_id_for_a_run(wandb, tmp_path, monkeypatch):
    logger = module.WeightsAndBiases(info(tmp_path))
    logger.log(3, {"train/loss": 2.0})
    logger.close()
    module.WeightsAndBiases(info(tmp_path))
    module.WeightsAndBiases(info(tmp_path, created="another day"))
    first, line, end, again, other = wandb
    assert first["mode"] == "offline"
    assert (line, end) == ((3, {"train/loss": 2.0}), "end")
    assert first["id"] == again["id"] != other["id"]
    monkeypatch.setenv("WANDB_MODE", "online")  # the user's own words
    module.WeightsAndBiases(info(tmp_path))
    assert wandb[-1]["mode"] == "online"


@pytest.fixture
def mlflow(monkeypatch):
    """A stand-in for mlflow with one store of runs for each address."""
    stores = {}

    class Client:
        def __init__(self, uri):
            self.runs = stores.setdefault(uri, {})

        def get_experiment_by_name(self, name):
            return SimpleNamespace(experiment_id="1") if self.runs else None

        def create_experiment(self, name):
            return "1"

        def search_runs(self, experiments, text):
            return [run for run in self.runs.values() if text.endswith(f"'{run.tag}'")]

        def delete_run(self, number):
            del self.runs[number]

        def create_run(self, experiment, *, run_name, tags):
            number = f"r{len(self.runs)}{run_name}"
            run = SimpleNamespace(
                info=SimpleNamespace(run_id=number), tag=tags["coview.run"], params={}, rows=[]
            )
            self.runs[number] = run
            return run

        def log_param(self, number, name, value):
            self.runs[number].params[name] = value

        def log_batch(self, number, metrics):
            self.runs[number].rows += metrics

        def set_terminated(self, number):
            self.runs[number].ended = True

    fake, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    fake.MlflowClient = Client
    entities.Metric = lambda name, value, time, step: (name, value, step)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return stores


def test_mlflow_has_one_run_for_a_run_beside_its_folder(mlflow, tmp_path):
    for _ in range(2):
        logger = module.MLflow(info(tmp_path))
        logger.log(3, {"train/loss": 2.0})
        logger.close()
    ((address, runs),) = mlflow.items()
    assert address == f"sqlite:///{tmp_path}/mlflow.db"
    (run,) = runs.values()
    assert run.rows == [("train/loss", 2.0, 3)]
    assert run.params == {"epochs": "3", "method.name": "simclr"}
    assert run.ended


def tensorboard_steps(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.step for event in events.Scalars(name)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_every_report_of_a_run_and_of_its_resumption_once(tmp_path):
    pytest.importorskip("tensorboard")
    run = coview.pretrain(pictures(), out=tmp_path / "run", epochs=3, log_to="tensorboard", **SMALL)
    folder = run.loggers_path / "tensorboard"
    reports = [row["step"] for row in run.metrics("step")]
    assert tensorboard_steps(folder, "train/loss") == reports
    run.verdict_path.unlink()  # as if it had been killed before its end
    coview.resume(run.path, data=pictures(), device="cpu")
    assert tensorboard_steps(folder, "train/loss") == reports
    assert tensorboard_steps(folder, "health/rank_h") == [
        row["step"] for row in run.metrics("health")
    ]
