"""A push sends the export with its card, results included, and nothing unless told to."""

import pytest
from PIL import Image

import coview
from coview.cli import main
from coview.core.errors import InvalidValue, RunError
from coview.evaluation import read_results
from small_run import SMALL, pictures

hub = pytest.importorskip("huggingface_hub")


class Hub:
    """Takes what is sent to it; the files are gone when a push has ended."""

    def __init__(self):
        self.made, self.files = None, {}

    def create_repo(self, name, *, private, exist_ok):
        self.made = (name, private, exist_ok)
        return f"hub/{name}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert repo_id == self.made[0]
        self.files = {path.name: path.read_bytes() for path in folder_path.iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("push")
    images, labels = pictures(80)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "my photos" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    run = coview.pretrain(folder / "my photos", out=folder / "run", epochs=1, **SMALL)
    coview.evaluate(run.path, folder / "my photos", labels_from="folders", protocols="knn")
    return run


def test_card_on_the_hub_holds_the_results_with_protocol_interval_and_data(run, monkeypatch):
    taken = Hub()
    monkeypatch.setattr(hub, "HfApi", lambda: taken)
    assert coview.push(run.path, "me/photos", license="Apache-2.0") == "hub/me/photos"
    assert taken.made == ("me/photos", True, True)
    assert sorted(taken.files) == ["README.md", "config.json", "encoder.py", "model.safetensors"]
    assert taken.files["model.safetensors"] == (run.encoder_path / "model.safetensors").read_bytes()
    card = taken.files["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\npipeline_tag: image-feature-extraction\n")
    results = [r for r in read_results(run.evaluation_path) if r.subject == "trained"]
    for each in results:
        low, high = each.interval
        row = (
            f"| knn | {each.layer} | {each.metric} | {each.value:.4g} | [{low:.4g}, {high:.4g}] | "
        )
        assert row in card
    assert "- Data: train `my photos` (fingerprint `" in card
    assert card.index("Measured by `coview evaluate`") < card.index("## Limits")
    assert "untrained |" not in card
    assert str(run.path.parent) not in card
    assert "Measured by" not in (run.encoder_path / "README.md").read_text()


def test_dry_run_sends_nothing_and_says_what_would_be_sent(run, monkeypatch, capsys):
    monkeypatch.setattr(hub, "HfApi", lambda: pytest.fail("the Hub was asked"))
    assert main(["push", str(run.path), "me/photos", "--dry-run", "--public"]) == 0
    said = capsys.readouterr().out
    assert "Nothing is sent. me/photos (public) would get: README.md (" in said


def test_refusal_of_the_hub_is_one_sentence(run, monkeypatch):
    class Refuses(Hub):
        def create_repo(self, *_, **__):
            raise OSError("401 Client Error.\nmore")

    monkeypatch.setattr(hub, "HfApi", Refuses)
    with pytest.raises(
        RunError, match=r"The Hub did not take me/photos: 401 Client Error\. Log in"
    ):
        coview.push(run.path, "me/photos")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"repository": "photos"}, "`repository` is 'photos'"),
     ({"repository": "me/x", "license": "My own!"}, "a license of your own: other"),
     ({"repository": "me/x", "license": "apache-2"}, "Did you mean 'apache-2.0'"),
     ({"repository": "me/x", "license": "GPL-2.0-or-later"}, "no license to the Hub"),
     ({"repository": "me/x", "results": "nowhere"}, "holds no results of one subject")],
)  # fmt: skip
def test_wrong_words_are_refused_before_anything_is_sent(run, options, words):
    with pytest.raises(InvalidValue, match=words):
        coview.push(run.path, dry_run=True, **options)


def test_results_of_another_network_are_refused_and_those_of_the_export_are_taken(run, tmp_path):
    other = coview.pretrain(
        run.path.parent / "my photos", out=tmp_path / "other", epochs=1, **SMALL | {"seed": 7}
    )
    with pytest.raises(InvalidValue, match=r"results of another network than .*other \(knn\)"):
        coview.push(other.path, "me/x", results=run.evaluation_path, dry_run=True)
    photos = {"labels_from": "folders", "protocols": "knn", "out": tmp_path / "judged"}
    coview.evaluate(run.encoder_path, run.path.parent / "my photos", **photos)
    assert coview.push(
        run.path, "me/x", results=tmp_path / "judged", subject="encoder", dry_run=True
    )
