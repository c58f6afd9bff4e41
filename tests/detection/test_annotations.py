"""Boxes, outlines and label maps are read as they were written; what is wrong is said in a sentence."""

import json

import numpy as np
import pytest
from drawn_boxes import NAMES, draw, write_coco, write_voc
from PIL import Image

from coview.core.errors import DataError
from coview.data.annotated import AnnotatedSpec, spec_from_json
from coview.data.label_maps import map_parts, read_maps
from coview.data.voc import read_xml
from coview.runs.data import RunData


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("voc"))


def drawn_boxes(number):
    return sorted((kind, *box) for kind, *box in draw(number)[1])


def boxes_of(store, row):
    part = store.objects.of(row)
    return sorted(
        (int(c), *map(int, b))
        for c, b in zip(store.objects.classes[part], store.objects.boxes[part], strict=True)
    )


def test_coco_boxes_and_classes(coco):
    store = AnnotatedSpec.of(coco, size=48).open()
    assert store.class_names == NAMES
    assert len(store) == 12
    for row, name in enumerate(store.names):
        assert boxes_of(store, row) == drawn_boxes(int(name.split(".")[0]))
        assert np.array_equal(store.image(row), np.asarray(draw(int(name.split(".")[0]))[0]))


def test_the_test_part_is_the_other_file(coco):
    spec = AnnotatedSpec.of(coco, size=48)
    tests = spec.tests().open()
    assert len(tests) == 6
    assert boxes_of(tests, 0) == drawn_boxes(1000)
    opened = RunData(images=spec, own_test=True).open()
    assert opened.images.fingerprint != opened.test.fingerprint
    assert spec_from_json(spec.to_json()) == spec


def test_a_subset_keeps_the_objects_of_its_images(coco):
    store = AnnotatedSpec.of(coco, size=48).open()
    part = store.subset(np.array([5, 2]))
    assert [boxes_of(part, row) for row in range(2)] == [boxes_of(store, 5), boxes_of(store, 2)]
    assert part.fingerprint != store.subset(np.array([2, 5])).fingerprint
    assert part.objects.total == int(part.objects.counts.sum())


def test_a_limit_takes_images_with_their_objects(coco):
    store = AnnotatedSpec.of(coco, size=48, limit=4).open()
    assert len(store) == 4
    for row, name in enumerate(store.names):
        assert boxes_of(store, row) == drawn_boxes(int(name.split(".")[0]))


def test_a_file_beside_a_folder_of_images(coco, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text((coco / "annotations" / "instances_val2017.json").read_text())
    with pytest.raises(DataError, match="no folder of the images"):
        AnnotatedSpec.of(file, size=48).open()
    store = AnnotatedSpec.of(file, size=48, image_folder=str(coco / "val2017")).open()
    assert len(store) == 6


def test_voc_boxes_count_from_one(voc):
    spec = AnnotatedSpec.of(voc, size=48)
    store = spec.open()
    assert store.class_names == tuple(sorted(NAMES))
    swap = [store.class_names.index(name) for name in NAMES]
    for row, name in enumerate(store.names):
        expected = sorted((swap[kind], *box) for kind, *box in draw(int(name.split(".")[0]))[1])
        assert boxes_of(store, row) == expected
    assert store.objects.difficult.any()
    assert len(spec.tests().open()) == 4


def test_label_maps(voc):
    (voc / "classes.txt").write_text("ground\nrectangle\nellipse\n")
    store = AnnotatedSpec.of(voc, size=48, semantic=True).open()
    assert store.class_names == ("ground", "rectangle", "ellipse")
    for row, name in enumerate(store.names):
        assert np.array_equal(
            store.label_maps.read(row), np.asarray(draw(int(name.split(".")[0]))[2])
        )
    with pytest.raises(DataError, match="and no objects"):
        _ = store.objects


def test_a_changed_label_map_of_equal_size_has_another_fingerprint(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.txt").write_text("ground\nobject\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    prints = []
    for number in (0, 1):
        (tmp_path / "masks" / "a.png").write_bytes(bytes([number]) * 40)
        maps = read_maps(tmp_path, map_parts(tmp_path)["train"]).maps
        prints.append(maps.fingerprint())
    assert prints[0] != prints[1]


def write_maps(root, parts):
    """images/ beside masks/: for each part the largest number in each of its maps."""
    for part, largest in parts.items():
        for name in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for number, value in enumerate(largest):
            labels = np.zeros((8, 12), np.uint8)
            labels[2:4, 3:6] = value
            image = Image.fromarray(np.random.default_rng(number).integers(
                0, 256, (8, 12, 3), dtype=np.uint8
            ))  # fmt: skip
            image.save(root / "images" / part / f"{number}.png")
            Image.fromarray(labels).save(root / "masks" / part / f"{number}.png")


def test_a_missing_area_is_that_of_the_outline(coco, tmp_path):
    content = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    first, second = content["annotations"][:2]
    for each in (first, second):
        del each["area"]
        each["bbox"] = [10, 10, 20, 16]
    first["segmentation"] = [[10, 10, 30, 10, 30, 26]]  # half of the box
    del second["segmentation"]
    second["image_id"] = first["image_id"]
    file = tmp_path / "instances_val2017.json"
    file.write_text(json.dumps(content))
    areas = AnnotatedSpec.of(file, size=48, image_folder=str(coco / "val2017")).open().objects.areas
    assert areas[0] == pytest.approx(160, abs=20)
    assert areas[1] == 320


def test_test_maps_without_the_last_classes_have_those_of_the_training(tmp_path):
    write_maps(tmp_path, {"train": [1, 3], "val": [2, 1]})
    spec = AnnotatedSpec.of(tmp_path, size=8, semantic=True)
    opened = RunData(images=spec, own_test=True).open()
    assert opened.test.class_names == opened.images.class_names == ("0", "1", "2", "3")
    assert opened.test.label_maps.read(0).max() == 2
    Image.fromarray(np.full((8, 12), 4, np.uint8)).save(tmp_path / "masks" / "val" / "0.png")
    with pytest.raises(DataError, match=r"0, 1, 2, 3, 4; expected .* classes\.txt"):
        RunData(images=spec, own_test=True).open()


def test_an_image_of_another_shape_is_left_out(coco, tmp_path):
    content = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    content["images"][1] |= {"width": 48, "height": 64}
    file = tmp_path / "instances_val2017.json"
    file.write_text(json.dumps(content))
    store = AnnotatedSpec.of(file, size=48, image_folder=str(coco / "val2017")).open()
    assert len(store) == 5
    assert "annotated as 48 x 64" in store.quarantine[0][1]


def test_an_image_of_another_shape_than_its_label_map_is_left_out(tmp_path):
    write_maps(tmp_path, {"train": [1, 1, 1]})
    turned = tmp_path / "masks" / "train" / "1.png"
    Image.open(turned).transpose(Image.Transpose.ROTATE_90).save(turned)
    store = AnnotatedSpec.of(tmp_path, size=8, semantic=True).open()
    assert list(store.names) == ["0.png", "2.png"]
    assert [path.name for path in store.label_maps.paths] == ["0.png", "2.png"]
    assert store.quarantine[0][1] == "12 x 8 pixels, annotated as 8 x 12"
    turned.write_bytes(b"no image")
    (tmp_path / "classes.txt").write_text("ground\nobject\n")
    with pytest.raises(DataError, match=r"label map .*1\.png cannot be read"):
        AnnotatedSpec.of(tmp_path, size=8, semantic=True).open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(image_id=99), "image 99, which is not listed"),
        (lambda c: c["annotations"][0].update(category_id=99), "category 99"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "bbox of 3 numbers"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "segmentation"),
        (lambda c: c.pop("categories"), "`categories` is missing"),
        (lambda c: c.update(images=[]), "lists no images"),
        (lambda c: c["images"][1].update(id=10), "one number"),
        (lambda c: c["images"][1].update(id=10**30), "beyond 64 bits"),
        (lambda c: c["categories"][1].update(id=10**30), "beyond 64 bits"),
        (lambda c: c["images"][1].update(height=0), "at least 1 x 1"),
        (lambda c: c["images"][1].update(height=10**30), "at least 1 x 1"),
        (lambda c: c["images"][1].update(file_name="../../a.png"), "within the folder"),
        (lambda c: c["images"][1].update(file_name="..\\a.png"), "within the folder"),
        (lambda c: c["images"][1].update(file_name="/etc/a.png"), "within the folder"),
        (lambda c: c["images"][1].update(file_name=""), "within the folder"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 10**400, 3]), "not finite or too large"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 3]), "is NaN"),
        (lambda c: c["annotations"][0].update(area=10**400), "square pixels"),
        (lambda c: c["annotations"][0].update(area=float("nan")), "square pixels"),
        (lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1e300, 1, 2, 2]]), "finite"),
        (lambda c: c["annotations"][0].update(segmentation=[[0, 0, 10**400, 1, 2, 2]]), "finite"),
        (
            lambda c: c["annotations"][0].update(
                segmentation={"size": [-10, -10], "counts": [100]}
            ),
            "another size",
        ),
    ],
)
def test_a_damaged_file_is_named(coco, tmp_path, change, message):
    content = json.loads((coco / "annotations" / "instances_val2017.json").read_text())
    change(content)
    file = tmp_path / "instances_val2017.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        AnnotatedSpec.of(file, size=48, image_folder=str(coco / "val2017")).open()


def test_a_folder_without_annotations(tmp_path):
    with pytest.raises(DataError, match="holds no annotations of boxes"):
        AnnotatedSpec.of(tmp_path, size=48).open()
    with pytest.raises(DataError, match="has no label maps"):
        AnnotatedSpec.of(tmp_path, size=48, semantic=True).open()


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY b "cc">]><annotation><size><width>1</width><height>1</height></size></annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        "<annotation><size><width>1</width></size></annotation>",
        "<annotation><size><width>a</width><height>1</height></size></annotation>",
        "<annotation>" + "<a>" * 100,
        "<annotation>plain</annotation>",
        "not xml",
        "",
    ],
)
def test_hostile_xml_is_refused(tmp_path, text):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError):
        read_xml(path)
