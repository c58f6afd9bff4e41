"""What is judged, beside what, where the figures go, and what is said of the training images."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet18

import coview
from coview.cli import main
from coview.cli.tables import evaluation_table
from coview.core.errors import CoviewError, DataError, InvalidValue, UnknownName
from coview.encoders import InputNormalizer, resnet
from coview.encoders.exchange.classifier import Classifier
from coview.evaluation import PROTOCOLS, Protocol, Result, Subject, register_protocol
from coview.reports import read_record
from coview.runs.evaluate import MINUTES
from coview.runs.results import Results
from coview.runs.subjects import open_subjects
from coview.views import eval_view
from small_run import SMALL, pictures

TEST = pictures(45, seed=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return coview.pretrain(pictures()[0], epochs=1, out=folder / "first", **SMALL)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    return coview.pretrain(pictures()[0], epochs=1, out=folder / "first", seed=1, **SMALL)


class Colors(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


def judge(subjects, out, **options):
    options = {"protocols": "knn", "test": TEST, "device": "cpu", **options}
    return coview.evaluate(subjects, options.pop("data", pictures()), out=out, **options)


def names(results):
    return list(dict.fromkeys(result.subject for result in results))


def test_several_subjects_stand_in_one_table_and_a_run_has_its_own_figures_too(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    subjects = {"ours": run.path, "export": run.encoder_path, "colors": Colors()}
    results = judge(subjects, None, size=8)
    assert names(results) == ["ours", "export", "colors", "untrained", "pixels"]
    assert results.path == tmp_path.relative_to(tmp_path) / "evaluations" / "arrays"
    assert sorted(path.name for path in results.path.iterdir()) == ["comparison.html", "knn.json"]
    rows = [r for r in results if r.layer == "h" and r.setting["k"] == 20]
    ours, export = (next(r for r in rows if r.subject == name) for name in ("ours", "export"))
    assert ours.outcomes == export.outcomes, "an export is its run"
    own = json.loads((run.evaluation_path / "knn.json").read_text())
    assert list(dict.fromkeys(row["subject"] for row in own["results"])) == [
        "trained", "untrained", "pixels",
    ]  # fmt: skip
    assert list(own["card"]["subjects"]) == ["trained", "untrained", "pixels"]
    alone = coview.evaluate(run.path, pictures(), test=TEST, protocols="knn", device="cpu")
    assert [(r.subject, r.value) for r in alone] == [
        (row["subject"], row["value"]) for row in own["results"]
    ]
    page = (results.path / "comparison.html").read_text()
    assert "colors" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "the page loads nothing"


def save_flat(folder, count=60):
    """Images in a folder without sub-folders, which has no labels."""
    folder.mkdir()
    for row, image in enumerate(pictures(count, seed=2)[0]):
        Image.fromarray(image).save(folder / f"{row:02}.png")
    return folder


def save_classes(folder, names, count=20):
    """Images in a folder of each class."""
    images, labels = pictures(count, seed=3)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        inside = folder / names[label]
        inside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(inside / f"{row:02}.png")


def test_protocols_that_read_no_labels_need_none(run, tmp_path):
    flat = save_flat(tmp_path / "flat")
    chosen = "label-free,contrastive,invariance"
    results = judge([run.path, Colors()], tmp_path / "out", data=flat, test=None, size=8,
                    protocols=chosen)  # fmt: skip
    assert {each.protocol for each in results} == set(chosen.split(","))
    assert {each.test_images for each in results} == {12}
    assert results.contents[0]["card"]["split"].startswith("0.2 of the images are the test part")
    assert not {"classes", "largest_class_share"} & results.contents[0]["data"].keys()
    assert "12 test images are few; the 95 % interval says how little is known." in results.caveats
    assert "RankMe" in (results.path / "comparison.html").read_text()
    assert "RankMe" in run.report_path.read_text()
    with pytest.raises(DataError, match="Labels are the names of sub-folders"):
        judge([run.path], tmp_path / "other", data=flat, protocols="label-free,knn")


@pytest.mark.parametrize("kind", ["own parts", "without labels", "with labels"])
def test_test_images_need_no_labels_either(kind, run, tmp_path):
    data, test = tmp_path / "photos", None
    if kind == "own parts":
        data.mkdir()
        save_flat(data / "train", 40)
        save_flat(data / "test", 20)
    else:
        save_flat(data, 40)
        test = tmp_path / "other"
        save_classes(test, "abc") if kind == "with labels" else save_flat(test, 20)
    results = judge([run.path], tmp_path / "out", data=data, test=test, protocols="label-free",
                    no_baselines=True)  # fmt: skip
    assert {each.test_images for each in results} == {20}


def test_label_free_figures_of_labeled_images_do_not_depend_on_other_protocols(run, tmp_path):
    one, other = (
        judge([run.path], tmp_path / name, test=None, protocols=protocols, no_baselines=True)
        for name, protocols in (("one", "label-free"), ("other", "knn,label-free"))
    )
    assert list(one) == [each for each in other if each.protocol == "label-free"]


def test_folders_of_one_name_are_told_apart(run, second, tmp_path):
    results = judge([run.path, second.path], tmp_path / "out", no_baselines=True)
    assert names(results) == [f"{run.path.parent.name}/first", f"{second.path.parent.name}/first"]


def test_one_untrained_network_for_each_architecture(run, second, tmp_path):
    larger = coview.pretrain(
        pictures()[0], epochs=1, out=tmp_path / "larger", **{**SMALL, "encoder": "resnet10/8-small"}
    )
    results = judge([run.path, second.path, larger.path], tmp_path / "out")
    assert names(results)[3:] == [
        "untrained ResNet-18 width 1/8, small stem", "untrained ResNet-10 width 1/8, small stem",
        "pixels",
    ]  # fmt: skip


def test_a_library_network_with_weights_from_a_file_of_plain_tensors(tmp_path):
    torch.manual_seed(0)
    network = resnet18()
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}},
               tmp_path / "weights.pth")  # fmt: skip
    (judged,) = open_subjects(f"torchvision:resnet18={tmp_path / 'weights.pth'}", size=32)
    images = torch.rand(2, 3, 32, 32)
    network.fc = nn.Identity()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = network.eval()((images - mean) / std)
        torch.testing.assert_close(judged.subject.encoder.eval()(images), expected)
    assert judged.subject.view == eval_view(32)
    assert judged.architecture


def test_a_library_network_stands_beside_its_untrained_one(tmp_path):
    torch.save(resnet18().state_dict(), tmp_path / "weights.pth")
    results = judge(f"torchvision:resnet18={tmp_path / 'weights.pth'}", tmp_path / "out", size=32)
    assert names(results) == ["resnet18", "untrained", "pixels"]


def test_figures_of_other_subjects_are_not_mixed_into_one_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, two = (
        judge({name: resnet(10, width=0.125, stem="small", seed=seed)}, None, size=8)
        for seed, name in enumerate(("one", "two"))
    )
    again = judge({"one": resnet(10, width=0.125, stem="small", seed=0)}, None, size=8)
    assert one.path == again.path != two.path
    assert two.path.parent == one.path.parent


def test_a_library_network_without_a_file_is_said_to_be_random():
    (judged,) = open_subjects("torchvision:resnet18")
    assert judged.subject.name == "resnet18, random"
    assert "random" in judged.subject.note
    assert judged.subject.view.size == 224
    assert judged.fresh is None, "it is its own untrained network"


def test_a_module_stays_in_its_mode_and_needs_the_size_of_its_images(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    module.train()
    (judged,) = open_subjects(module, size=8)
    assert judged.subject.is_code
    results = judge(module, tmp_path, size=8)
    assert module.training
    assert names(results) == ["Sequential", "pixels"], "nothing is known of its first weights"
    with pytest.raises(InvalidValue, match="give it by `size`"):
        open_subjects(module)
    module.image_size = 12
    assert open_subjects(module)[0].subject.view.size == 12
    with pytest.raises(InvalidValue, match=r"expected features \[2, D\]"):
        open_subjects(nn.Unflatten(1, (3, 1)), size=8)


def test_a_subject_is_taken_as_it_is(tmp_path):
    subject = Subject(name="mine", encoder=nn.Flatten(), view=eval_view(4))
    assert names(judge(subject, tmp_path, no_baselines=True)) == ["mine"]


def test_a_loaded_classifier_takes_the_names_of_its_classes_along():
    encoder = InputNormalizer(resnet(10, width=0.125, stem="small"), None, None)
    layers = nn.Sequential(nn.Linear(encoder.features, 2))
    (judged,) = open_subjects(Classifier(encoder, layers, ["ant", "bee"]), size=8)
    assert (judged.subject.logits, judged.subject.class_names) == ("z", ("ant", "bee"))


def test_a_loaded_encoder_is_known(run):
    (judged,) = open_subjects(coview.load(run.path))
    assert judged.subject.view.size == 8
    assert judged.architecture
    assert not judged.subject.is_code


@pytest.mark.parametrize(
    ("subjects", "options", "sentence"),
    [
        ([], {}, "`subjects` is empty"),
        ([3], {}, "has a int; expected a run"),
        (Colors(), {"size": 8, "checkpoint": 4}, "none of the subjects is a run"),
        (
            Subject(name="mine", encoder=Colors(), view=eval_view(8)),
            {"size": 8},
            "none of the subjects is a module",
        ),
        ("torchvision:resnet18=nowhere.pth", {}, "There is no file nowhere.pth; expected"),
        ("torchvision:resnet18=nowhere.safetensors", {}, "There is no file"),
        ("torchvision:resnet1888", {}, "resnet18"),
        ({"pixels": Colors()}, {"size": 8}, "each once"),
        (Colors(), {"size": 8, "seed": -1}, "`seed` is -1; expected 0 or a positive whole number"),
    ],
)
def test_mistakes_are_sentences(subjects, options, sentence, tmp_path):
    with pytest.raises(CoviewError, match=re.escape(sentence)):
        judge(subjects, tmp_path, **options)


def _counts(benchmark):
    return [
        Result(protocol="counts", subject=subject.name, layer=subject.encoder_layer,
               metric="accuracy", value=0.5, interval=(0.4, 0.6), test_images=len(benchmark.test),
               setting={"outliers": {n: len(s) for n, s in benchmark.outliers.items()},
                        "others": {n: [len(a), len(b)] for n, (a, b) in benchmark.others.items()}},
               card=benchmark.card)
        for subject in benchmark.subjects
    ]  # fmt: skip


@pytest.fixture
def counts():
    protocol = Protocol(
        name="counts", title="Counts", question="How many?", evaluate=_counts,
        needs=("outliers", "others"),
    )  # fmt: skip
    yield register_protocol(protocol)
    del PROTOCOLS["counts"]


def test_a_protocol_gets_the_data_that_it_needs(run, counts, tmp_path):
    images, labels = pictures(30, seed=3)
    results = judge(
        run.path, tmp_path, protocols="counts", outliers={"noise": images},
        transfer={"a": (images, labels), "b": {"train": (images, labels), "test": pictures(12, seed=4)}},
    )  # fmt: skip
    setting = results[0].setting
    assert setting == {"outliers": {"noise": 30}, "others": {"a": [24, 6], "b": [30, 12]}}


def write_table(folder, part, names):
    """A table of images, each with several labels: bright on the left, at the top, or both."""
    folder.mkdir(exist_ok=True)
    rows = ["path,label"]
    for number, name in enumerate(names):
        generator = np.random.default_rng([len(part), number])
        image = generator.integers(0, 60, (12, 12, 3), dtype=np.uint8)
        image[:, :6] += np.uint8(150 * ("dog" in name))
        image[:6, :, 2] += np.uint8(40 * ("cat" in name))
        Image.fromarray(image).save(folder / f"{part}{number}.png")
        rows.append(f"{part}{number}.png,{name}")
    (folder / f"{part}.csv").write_text("\n".join(rows) + "\n")


def test_voc_2007_is_read_from_tables_whose_combinations_of_labels_differ(tmp_path, monkeypatch):
    write_table(tmp_path, "trainval", ["dog", "cat", "dog+cat", "dog", "cat"] * 12)
    write_table(tmp_path, "test", ["dog", "cat", "dog+cat?", "cat+dog?"] * 5)
    monkeypatch.chdir(tmp_path)
    pair = {"train": "trainval.csv", "test": "test.csv"}
    results = judge(
        Colors(), tmp_path / "out", size=8, protocols="transfer", transfer={"voc2007": pair},
        no_baselines=True,
    )  # fmt: skip
    result = results[1]
    assert (result.setting["data"], result.metric) == ("voc2007", "map11")
    assert result.test_images == 20
    assert result.value > 0.8
    with pytest.raises(DataError, match="classes that the other part lacks: cat"):
        judge(Colors(), tmp_path / "out", size=8, protocols="transfer", transfer={"mine": pair})


def test_test_images_of_further_data_that_a_run_was_trained_on_are_counted(run, second, tmp_path):
    seen, labels = pictures()
    some = seen[:9], labels[:9]
    results = judge(
        {"ours": run.path, "other": second.path, "colors": Colors()}, tmp_path, size=8,
        protocols="transfer", no_baselines=True,
        transfer={"seen": {"train": pictures(45, seed=3), "test": some},
                  "new": {"train": pictures(45, seed=3), "test": TEST}},
    )  # fmt: skip
    sentence = (
        "{} was trained on {} of the 9 test images of 'seen', without their labels: new images may "
        "give lower figures."
    )
    card = results.contents[0]["card"]
    assert card["trained on"] == {
        "ours": [sentence.format("ours", 9)],
        "other": [sentence.format("other", 5)],  # its seed holds four of them out
        "colors": [],
    }  # fmt: skip
    own = read_record(run.path).evaluation("transfer")["card"]
    assert own["trained on"] == {"trained": [sentence.format("ours", 9)]}


def test_a_protocol_without_its_data_is_refused_or_left_out(
    run, counts, tmp_path, capsys, monkeypatch
):
    for name in PROTOCOLS.keys() - {"knn", "linear", "ood", "counts"}:
        monkeypatch.delitem(PROTOCOLS, name)
    with pytest.raises(InvalidValue, match="give them by `outliers`"):
        judge(run.path, tmp_path, protocols="counts")
    with pytest.raises(InvalidValue, match="give them by `transfer`"):
        judge(run.path, tmp_path, protocols="counts", outliers=pictures(20)[0])
    results = judge(run.path, tmp_path, protocols="all")
    assert "'counts' is left out: it needs `outliers`" in capsys.readouterr().out
    assert {result.protocol for result in results} == {"knn", "linear"}
    with pytest.raises(UnknownName, match="knn"):
        judge(run.path, tmp_path, protocols="knnn")


def test_default_are_the_default_protocols(run, tmp_path):
    results = judge(run.path, tmp_path, protocols="default")
    expected = {name for name, protocol in PROTOCOLS.items() if protocol.default}
    assert {result.protocol for result in results} == expected


def save_parquet(path, images, labels):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rows = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        rows.append({"bytes": stream.getvalue(), "path": None})
    pq.write_table(pa.table({"image": rows, "label": labels.tolist()}), path)
    return path


@pytest.mark.parametrize("kind", ["pretrain", "finetune", "export"])
def test_test_images_that_were_trained_on_are_said_also_from_another_source(kind, tmp_path):
    images, labels = pictures()
    source = save_parquet(tmp_path / "train.parquet", images, labels)
    run = coview.pretrain(source, epochs=1, out=tmp_path / "run", **SMALL)
    what, sentence = run.path, r"The run was trained on (\d+) of the 60 test images, without"
    if kind == "finetune":
        options = {key: SMALL[key] for key in ("batch_size", "device", "workers")}
        run = coview.finetune(
            run.path, source, epochs=1, out=tmp_path / "tuned", no_baselines=True, **options
        )
        what, sentence = run.path, r"The run was trained on (\d+) of the 60 test images, with their"
    if kind == "export":
        what, sentence = run.encoder_path, r"encoder was trained on (\d+) of the 60 test images"
    # Under other names, in another order, with images that are new.
    new = pictures(15, seed=9)
    some = np.arange(0, 45)[::-1]
    other = save_parquet(
        tmp_path / "other.parquet",
        np.concatenate([new[0], images[some]]), np.concatenate([new[1], labels[some]]),
    )  # fmt: skip
    results = coview.evaluate(
        what, source, test=other, protocols="knn", device="cpu", out=tmp_path / "out"
    )
    data = results.contents[0]["data"]
    match = next(filter(None, (re.search(sentence, text) for text in data["caveats"])))
    assert 0 < int(match[1]) <= 45
    if kind == "finetune":
        assert any("The run before the run was trained" in text for text in data["caveats"])
    if kind != "export":
        assert data["caveats"] == read_record(run.path).evaluation("knn")["data"]["caveats"]


def test_training_images_that_are_gone_are_said(run, tmp_path):
    results = coview.evaluate(
        run.path, pictures(90, seed=5), test=TEST, protocols="knn", device="cpu", out=tmp_path
    )
    (sentence,) = [t for t in results.caveats if "not known" in t]
    assert "Whether the run was trained on test images is not known" in sentence


def test_the_command_takes_several_subjects_and_options_between_them(run, second, tmp_path, capsys):
    path = save_parquet(tmp_path / "data.parquet", *pictures())
    out = tmp_path / "out"
    words = ["evaluate", str(run.path), "--protocols", "knn", str(second.path), str(path), "--device",
             "cpu", "--out", str(out), "--json"]  # fmt: skip
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(out)
    assert len({row["subject"] for row in printed["results"]}) == 4


def test_a_folder_of_another_comparison_is_said(run, second, tmp_path, capsys):
    for test, is_said in ((TEST, False), (pictures(45, seed=8), True)):
        judge([run.path, second.path], tmp_path, test=test)
        said = capsys.readouterr().out
        assert ("holds figures of other subjects, images or seeds" in said) is is_said


def test_print_says_the_sentences_of_the_command_line(run, tmp_path, capsys):
    results = judge(run, tmp_path / "out", protocols="knn,label-free")
    lines = str(results).splitlines()
    assert [line.partition(" on h")[0] for line in lines] == ["kNN accuracy", "Label-free figures"]
    assert "points above" in lines[0] or "points below" in lines[0]
    evaluation_table(results.contents)
    assert all(line in capsys.readouterr().out.splitlines() for line in lines[:1])
    # Rows that are in no file.
    assert len(str(Results(results)).splitlines()) == len(results) > 2


def test_figures_that_replace_those_of_other_images_are_said(run, tmp_path, capsys):
    own = shutil.copytree(run.path, tmp_path / "run")
    judge(own, None, protocols="knn,label-free")
    judge(own, None, protocols="knn,label-free")
    assert "figures replace" not in capsys.readouterr().out
    other = pictures(30, seed=2)
    judge(own, None, protocols="knn", test=other)
    said = "The new figures replace those on arrays (45 images): knn."
    assert capsys.readouterr().out.splitlines().count(said) == 1
    judge({"mine": own, "theirs": run}, tmp_path / "both", protocols="label-free", test=other)
    said = "The new figures replace those of mine on arrays (45 images): label-free."
    assert said in capsys.readouterr().out


def test_many_protocols_say_how_long_they_take(run, tmp_path, capsys):
    protocols = ["knn", "label-free", "logistic", "retrieval"]
    judge(run, tmp_path / "few", protocols=protocols[:3])
    assert "protocols." not in capsys.readouterr().out
    judge(run, tmp_path / "many", protocols=protocols, no_baselines=True)
    out = capsys.readouterr().out
    assert (
        "4 protocols. Of these take longest, in minutes of a core on CIFAR-10: logistic 3." in out
    )
    assert all(re.search(rf"^{name}: [\d.]+ s\.$", out, re.MULTILINE) for name in protocols)


def test_the_minutes_of_protocols_are_those_that_were_measured():
    page = Path(__file__).parents[2] / "docs/benchmarks/results/protocols.md"
    rows = re.findall(
        r"^\| ([a-z-]+) \|.*\| ([\d.]+) \([\d.]+\) \|$", page.read_text(), re.MULTILINE
    )
    measured = {name: float(seconds) / 60 for name, seconds in rows}
    assert {name: round(measured[name], 1) for name in MINUTES} == MINUTES
    assert min(MINUTES.values()) > max(measured[name] for name in measured.keys() - MINUTES.keys())
