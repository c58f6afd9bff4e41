"""Average precision beside pycocotools, scikit-learn and a literal loop."""

import contextlib
import io

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from coview.core.images import store_from_arrays
from coview.core.rng import Stream, stream_seed
from coview.data.annotations import annotate
from coview.data.coco import ObjectRow, objects_of
from coview.data.outlines import encode_rle
from coview.diagnosis.detecting import Judged, diagnose_detection
from coview.evaluation import average_precision as ap
from coview.evaluation import detections
from coview.evaluation.detections import (
    COCO_FIGURES,
    Detected,
    coco_classes,
    coco_figures,
    coco_ground_truth,
    coco_results,
    match_boxes,
)
from coview.evaluation.eleven_points import eleven_point_map
from coview.evaluation.segmentation import PixelCounts, iou_interval, mean_iou
from coview.runs import judge_detection


def random_case(seed, images=12, classes=3, crowd=True):
    generator = np.random.default_rng(seed)
    rows, counts, found = [], [], []
    for _ in range(images):
        count = int(generator.integers(0, 6))
        counts.append(count)
        own = []
        for _ in range(count):
            x, y = generator.uniform(0, 60, 2)
            w, h = generator.uniform(5, 40, 2)
            box = (x, y, x + w, y + h)
            own.append((box, int(generator.integers(classes))))
            is_crowd = bool(crowd and generator.random() < 0.15)
            rows.append(ObjectRow(box, own[-1][1], w * h, is_crowd, False, None))
        boxes, labels = [], []
        for box, label in own * 2:
            boxes.append(np.array(box) + generator.normal(0, 3, 4))
            labels.append(label if generator.random() < 0.9 else int(generator.integers(classes)))
        for _ in range(4):
            x, y, w, h = generator.uniform(5, 50, 4)
            boxes.append(np.array([x, y, x + w, y + h]))
            labels.append(int(generator.integers(classes)))
        boxes = np.array(boxes)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = -np.sort(-generator.random(len(boxes)).round(6))
        found.append(Detected(boxes=boxes.round(3), scores=scores, classes=np.array(labels)))
    objects = objects_of(
        rows, np.array(counts), [(100, 100)] * images, numbers=list(range(5, 5 + images)),
        categories=[3, 1, 8][:classes],
    )  # fmt: skip
    store = store_from_arrays(np.zeros((images, 2, 2, 3), np.uint8))
    return annotate(store, objects, ["a", "b", "c"][:classes]), found


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_figure_of_cocos_own_packages(seed):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    store, found = random_case(seed)
    results, truth = coco_results(found, store.objects), coco_ground_truth(store)
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        judge = COCOeval(gt, gt.loadRes([dict(r) for r in results]), "bbox")
        judge.evaluate(), judge.accumulate(), judge.summarize()
    own = ap.mean_over_classes(match_boxes(found, store.objects, 3, rule="coco"))
    assert own.mean() == pytest.approx(judge.stats[0], abs=1e-9)
    assert own[0] == pytest.approx(judge.stats[1], abs=1e-9)
    figures, each = coco_figures(results, truth, "bbox")
    for name, value in zip(COCO_FIGURES, judge.stats, strict=False):
        assert (np.isnan(figures[name]) and value == -1) or figures[name] == pytest.approx(value)
    single = [
        ap.average_precision(one).mean()
        for one in match_boxes(found, store.objects, 3, rule="coco")
    ]
    assert each == pytest.approx(np.array(single), abs=1e-9)


@pytest.mark.parametrize("package", ["faster_coco_eval", "pycocotools"])
@pytest.mark.parametrize("seed", range(3))
def test_difficult_objects_are_ignored_as_in_our_own_matching(seed, package, monkeypatch):
    pytest.importorskip(package)
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        monkeypatch.setattr(detections, "coco_classes", lambda: (COCO, COCOeval))
    store, found = random_case(seed)
    difficult = store.objects.difficult
    difficult[:] = np.random.default_rng(seed).random(len(difficult)) < 0.3
    figures, each = coco_figures(
        coco_results(found, store.objects), coco_ground_truth(store), "bbox"
    )
    matched = match_boxes(found, store.objects, 3, rule="coco")
    own = ap.mean_over_classes(matched)
    assert figures["AP"] == pytest.approx(own.mean(), abs=1e-9)
    assert figures["AP50"] == pytest.approx(own[0], abs=1e-9)
    assert figures["AP75"] == pytest.approx(own[5], abs=1e-9)
    single = [ap.average_precision(one).mean() for one in matched]
    assert each == pytest.approx(np.array(single), abs=1e-9)


def test_false_boxes_within_a_difficult_object_count():
    pytest.importorskip("faster_coco_eval")
    boxes = [(0.0, 0.0, 60.0, 60.0), (70.0, 70.0, 90.0, 90.0)]
    rows = [
        ObjectRow(box, 0, (box[2] - box[0]) ** 2, False, difficult, None)
        for box, difficult in zip(boxes, (True, False), strict=True)
    ]
    objects = objects_of(rows, np.array([2]), [(100, 100)], numbers=[1], categories=[1])
    store = annotate(store_from_arrays(np.zeros((1, 2, 2, 3), np.uint8)), objects, ["a"])
    inner = np.array([[5.0, 5, 15, 15], [30, 30, 40, 40], boxes[1]])
    found = [Detected(boxes=inner, scores=np.array([0.9, 0.8, 0.7]), classes=np.zeros(3, np.int64))]
    figures, _ = coco_figures(coco_results(found, objects), coco_ground_truth(store), "bbox")
    assert figures["AP50"] == pytest.approx(1 / 3)
    objects.difficult[:] = True
    figures, _ = coco_figures(coco_results(found, objects), coco_ground_truth(store), "bbox")
    assert np.isnan(figures["AP50"])


@pytest.mark.parametrize("package", ["faster_coco_eval", "pycocotools"])
def test_the_size_of_a_detected_outline_is_its_own(package, monkeypatch):
    """Outlines of 600 px in boxes of 3,600 px: small by their pixels, medium by the box."""
    pytest.importorskip(package)
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        monkeypatch.setattr(detections, "coco_classes", lambda: (COCO, COCOeval))
    mask, false = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    mask[10:70, 10:15], mask[10:15, 10:70] = 1, 1
    false[39:99, 93:98], false[94:99, 38:98] = 1, 1
    box = (10.0, 10.0, 70.0, 70.0)
    rows = [ObjectRow(box, 0, float(mask.sum()), False, False, encode_rle(mask))]
    objects = objects_of(rows, np.array([1]), [(100, 100)], numbers=[1], categories=[1])
    store = annotate(store_from_arrays(np.zeros((1, 2, 2, 3), np.uint8)), objects, ["a"])
    found = [Detected(
        boxes=np.array([[38.0, 39, 98, 99], box]), scores=np.array([0.9, 0.8]),
        classes=np.zeros(2, np.int64), outlines=[encode_rle(false), encode_rle(mask)],
    )]  # fmt: skip
    results = coco_results(found, objects)
    figures, _ = coco_figures(results, coco_ground_truth(store), "segm")
    assert figures["AP50"] == pytest.approx(0.5)
    assert figures["APs"] == pytest.approx(0.5)  # by its box the false one is no small one: 1
    assert "bbox" in results[0]


def slow_voc(found, objects, number, threshold, eleven):
    """The development kit's evaluation of a class, as it is written there."""
    dets = [(s, row, b) for row, d in enumerate(found)
            for s, b, c in zip(d.scores, d.boxes, d.classes, strict=True) if c == number]  # fmt: skip
    dets.sort(key=lambda item: -item[0])
    truth = {row: [i for i in range(objects.of(row).start, objects.of(row).stop) if objects.classes[i] == number]
             for row in range(len(objects))}  # fmt: skip
    total = sum(not objects.difficult[i] for row in truth.values() for i in row)
    seen, hits, misses = set(), [], []
    for _, row, box in dets:
        best, which = -1.0, None
        for i in truth[row]:
            other = objects.boxes[i]
            w = min(box[2], other[2]) - max(box[0], other[0])
            h = min(box[3], other[3]) - max(box[1], other[1])
            if w > 0 and h > 0:
                union = (
                    (box[2] - box[0]) * (box[3] - box[1])
                    + (other[2] - other[0]) * (other[3] - other[1])
                    - w * h
                )
                if w * h / union > best:
                    best, which = w * h / union, i
        if best >= threshold and objects.difficult[which]:
            continue
        hit = best >= threshold and which not in seen
        if hit:
            seen.add(which)
        hits.append(hit)
        misses.append(not hit)
    tp, fp = np.cumsum(hits), np.cumsum(misses)
    recall, precision = tp / total, tp / (tp + fp)
    if eleven:
        return sum(max((p for p, r in zip(precision, recall, strict=True) if r >= t - 1e-9), default=0)
                   for t in np.linspace(0, 1, 11)) / 11  # fmt: skip
    mrec, mpre = [0, *recall, 1], [0, *precision, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec)))


@pytest.mark.parametrize("seed", range(3))
def test_vocs_two_definitions(seed):
    store, found = random_case(seed, crowd=False)
    objects = store.objects
    objects.difficult[:] = np.random.default_rng(seed).random(len(objects.difficult)) < 0.2
    each = match_boxes(found, objects, 3, rule="voc", thresholds=(0.5,))
    for number in range(3):
        for name, eleven in (("11", True), ("area", False)):
            value = ap.average_precision(each[number], name)[0]
            assert value == pytest.approx(slow_voc(found, objects, number, 0.5, eleven), abs=1e-9)


def test_an_object_comes_before_a_crowd_that_is_overlapped_more():
    """A detection of an object inside a crowd lies in the crowd by 100 %."""
    ious = np.array([[0.8, 1.0], [0.3, 1.0], [0.7, 0.9], [0.2, 0.4]])
    crowd = np.array([False, True])
    right, ignored = ap.match(ious, crowd, (0.5,), rule="voc", crowd=crowd)
    assert right.tolist() == [[True, False, False, False]]
    assert ignored.tolist() == [[False, True, False, False]]
    right, ignored = ap.match(ious[:, 1:], crowd[1:], (0.5,), rule="voc", crowd=crowd[1:])
    assert ignored.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("hits", range(1, 11))
def test_a_recall_that_is_equal_to_a_point_reaches_it(hits):
    """Of 10 objects the first detections are right, then one is wrong."""
    ranked = np.array([True] * hits + [False] * 5 + [True] * (10 - hits))
    each = ap.Matched(
        right=ranked[None], ignored=np.zeros((1, 15), bool), images=np.zeros(15, np.int64),
        objects=np.array([10]),
    )  # fmt: skip
    precision = [1.0] * hits + [n / (n + 5) for n in range(hits + 1, 11)]
    best = [max(precision[max(n - 1, 0) :]) for n in range(11)]
    assert ap.average_precision(each, "11")[0] == pytest.approx(np.mean(best))
    scores = -np.arange(15.0)[:, None]
    assert eleven_point_map(scores, ranked[:, None].astype(np.int8)) == pytest.approx(np.mean(best))


def test_the_area_without_steps_back_is_scikit_learns():
    """Where precision only falls, the envelope changes nothing."""
    right = np.array([1, 1, 1, 0, 1, 0, 0]) == 1
    matched = ap.Matched(
        right=right[None],
        ignored=np.zeros((1, 7), bool),
        images=np.arange(7),
        objects=np.full(7, 4 / 7),
    )
    expected = average_precision_score(right, -np.arange(7))
    assert ap.average_precision(matched, "area")[0] == pytest.approx(expected)


def test_a_weight_is_an_image_that_comes_again():
    store, found = random_case(7)
    weights = np.random.default_rng(0).integers(0, 3, len(store)).astype(float)
    rows = np.repeat(np.arange(len(store)), weights.astype(int))
    again = match_boxes([found[r] for r in rows], store.objects.subset(rows), 3, rule="coco")
    once = match_boxes(found, store.objects, 3, rule="coco")
    # Equal scores of the copies come in another order, which moves no figure at whole groups.
    assert ap.mean_over_classes(once, "area", weights) == pytest.approx(
        ap.mean_over_classes(again, "area"), abs=0.02
    )
    assert ap.mean_over_classes(once, "101", np.ones(len(store))) == pytest.approx(
        ap.mean_over_classes(once)
    )


def test_the_interval_holds_the_value_and_is_the_same_each_time():
    store, found = random_case(3)
    each = match_boxes(found, store.objects, 3, rule="coco")
    low, high = ap.bootstrap_interval(each, len(store))
    assert low <= ap.mean_over_classes(each).mean() <= high
    assert (low, high) == ap.bootstrap_interval(each, len(store))


def drawn(figure, images, part):
    """The percentile interval of 200 draws of the images, in plain lines."""
    generator = np.random.default_rng(stream_seed(0, Stream.PROBE, part))
    chances = np.full(images, 1 / images)
    values = [figure(generator.multinomial(images, chances).astype(float)) for _ in range(200)]
    return tuple(np.nanquantile(values, [0.025, 0.975]))


def test_intervals_over_images_have_the_bits_of_the_plain_draws():
    store, found = random_case(3)
    one, other = match_boxes(found, store.objects, 3, rule="coco"), match_boxes(
        found[::-1], store.objects, 3, rule="coco"
    )  # fmt: skip
    assert ap.bootstrap_interval(one, len(store)) == drawn(
        lambda w: ap.mean_over_classes(one, weights=w).mean(), len(store), "bootstrap of detection"
    )
    assert judge_detection.difference_interval(one, other, len(store)) == drawn(
        lambda w: np.diff([ap.mean_over_classes(each, weights=w)[0] for each in (other, one)])[0],
        len(store), "bootstrap of a difference",
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 9, (3, 7, 2))
    pixels[:, :5] = 0  # draws without the last two images have no pixels at all
    counts = PixelCounts(right=pixels.min(0), predicted=pixels[1], true=pixels[2])
    assert iou_interval(counts) == drawn(
        lambda w: mean_iou(counts, w), 7, "bootstrap of segmentation"
    )


def test_one_image_says_little():
    """Every draw of one image is that image."""
    one = ap.Matched(
        right=np.ones((1, 1), bool), ignored=np.zeros((1, 1), bool), images=np.array([0]),
        objects=np.array([1]),
    )  # fmt: skip
    low, high = ap.bootstrap_interval([one], 1)
    assert (low < 0.5, high) == (True, 1.0)
    pixels = np.full((1, 2), 8)
    low, high = iou_interval(PixelCounts(right=pixels, predicted=pixels, true=pixels))
    assert (low < 0.5, high) == (True, 1.0)


@pytest.mark.parametrize(
    ("images", "label"), [(29, "learned"), (30, "no better than from scratch")]
)
def test_few_test_images_do_not_tell_which_of_two_is_better(images, label):
    judged = Judged(
        figure="AP50", value=0.5, train_value=0.9, chance=0.0, images=images, scratch=0.5,
        difference=(0.0, 0.0),
    )  # fmt: skip
    found = diagnose_detection(judged, step=400)
    assert found.label == label
    assert ("not judged on fewer than 30 test images" in found.sentence) == (images < 30)
    assert ("difference" in found.sentence) == (images >= 30)


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            (-0.01, 0.13),
            "Better than from scratch by 5.0 points, but 40 test images are too few to ",
        ),
        ((-0.01, 0.015), "No better than from scratch: AP50 50.0 %"),
        ((-0.2, -0.1), "No better than from scratch: AP50 50.0 %"),
    ],
)
def test_a_difference_that_may_be_a_useful_gain_is_open(difference, words):
    judged = Judged(
        figure="AP50", value=0.5, train_value=0.9, chance=0.0, images=40, scratch=0.45,
        difference=difference,
    )  # fmt: skip
    found = diagnose_detection(judged, step=400)
    assert found.label == "no better than from scratch"
    assert found.sentence.startswith(words)
    assert found.undecided == (difference[1] == 0.13)


def test_nothing_detected_and_nothing_to_detect():
    store, found = random_case(0)
    none = [
        Detected(boxes=np.zeros((0, 4)), scores=np.zeros(0), classes=np.zeros(0, np.int64))
        for _ in found
    ]
    assert ap.mean_over_classes(match_boxes(none, store.objects, 3, rule="coco")).max() == 0
    assert coco_figures([], coco_ground_truth(store), "bbox")[0]["AP"] == 0


def test_the_package_is_found_or_named():
    pytest.importorskip("faster_coco_eval")
    assert coco_classes()[1].__name__ == "COCOeval_faster"
