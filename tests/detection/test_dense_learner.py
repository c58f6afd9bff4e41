"""Detectors and segmenters as tasks: gradients, statistics, samples, processes, torchvision's own."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from drawn_boxes import write_coco, write_voc
from small_detector import FORMS, PIXELS, SMALL, batch, encoder, learner, store
from torch.utils._pytree import tree_leaves
from torchvision.models.detection import FasterRCNN, roi_heads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import poolers

from coview.core.errors import InvalidValue, UnknownName
from coview.core.memory import DoesNotFit, PartSize
from coview.core.ranks import Ranks
from coview.core.repeatable import any_algorithm, repeatable
from coview.dense import Detector, detector
from coview.dense.inputs import draw_scale, output_size, render_maps, render_objects
from coview.dense.learner import split_targets
from coview.dense.maps import dilate_last_group, forward_groups
from coview.dense.sampling import KeyedSampler
from coview.diagnosis.detecting import _detect_in_parts, detect_images, segment_images
from coview.encoders import EncoderSpec
from coview.encoders.spec import parse_encoder
from coview.methods import Passes
from coview.training import Precision, train_step
from coview.training.step import gradients
from coview.views import Jitter, ViewPlan, ViewSpec
from processes import together
from short_of_memory import room_for

CPU = Precision(torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return store(write_coco(tmp_path_factory.mktemp("coco")))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = write_voc(tmp_path_factory.mktemp("voc"))
    (folder / "classes.txt").write_text("ground\nrectangle\nellipse\n")
    return store(folder, semantic=True)


def case(name, images, maps):
    return (PIXELS, maps) if name == "pixels" else (FORMS[name], images)


@pytest.mark.parametrize("mark", ["", "+same"])
def test_a_dilated_map_is_that_of_plain_convolutions(mark):
    """The fourth group keeps the size of the third, also with TensorFlow's padding."""
    network = parse_encoder(f"resnet10/8{mark}").build(seed=1).eval().network
    images = torch.rand(2, 3, 100, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        third = forward_groups(network, images)[2]
        dilate_last_group(network)
        fourth = forward_groups(network, images)[3]
        for module in network.layer4.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.__class__ = torch.nn.Conv2d
                module.padding = tuple(size - 1 for size in module.kernel_size)
        plain = network.layer4(third)
    assert fourth.shape[2:] == third.shape[2:]
    torch.testing.assert_close(fourth, plain)


@pytest.mark.parametrize("name", [*FORMS, "pixels"])
def test_the_loss_falls_and_moves_nothing_before_the_step(name, images, maps):
    method, data = case(name, images, maps)
    task, examples = learner(method), batch(data, method)
    task.train()
    before = {key: value.clone() for key, value in task.state_dict().items()}
    terms = task.loss(examples, 0)
    assert all(torch.isfinite(term) and term.ndim == 0 for term in terms.values())
    assert all(torch.equal(before[key], value) for key, value in task.state_dict().items())
    optimizer = torch.optim.AdamW(task.parameters())
    losses = [train_step(task, examples, optimizer, 5e-3, CPU).loss for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    moved = [key for key, value in task.state_dict().items()
             if key.startswith("encoder") and "running_mean" in key and not torch.equal(value, before[key])]  # fmt: skip
    assert bool(moved) == (name != "frozen")


@pytest.mark.parametrize("name", [*FORMS, "pixels"])
def test_recomputed_activations_give_the_same_gradient(name, images, maps):
    method, data = case(name, images, maps)
    results = []
    for recompute in (False, True):
        task = learner(method, passes=Passes(activation_checkpointing=recompute)).train()
        optimizer = torch.optim.SGD(task.parameters())
        gradients(task, batch(data, method), optimizer, CPU)
        task.after_step(0)
        results.append(({n: p.grad for n, p in task.named_parameters()}, task.state_dict()))
    for name, gradient in results[0][0].items():
        other = results[1][0][name]
        assert (gradient is None) == (other is None)
        assert gradient is None or torch.allclose(gradient, other, atol=1e-6), name
    for name, value in results[0][1].items():
        assert torch.equal(value, results[1][1][name]), name


@pytest.mark.parametrize("name", ["fpn masks", "c4 masks"])
def test_crops_are_those_of_torchvisions_kernel_where_a_gpu_is_repeatable(
    name, images, monkeypatch
):
    """torchvision compiles its Python code for them where it finds the setting on."""
    seen, cuda = [], torch.device("cuda")
    align, propose = poolers.roi_align, RegionProposalNetwork.forward

    def is_on(kind, function):
        def noted(*arguments, **options):
            seen.append((kind, torch.are_deterministic_algorithms_enabled()))
            return function(*arguments, **options)

        return noted

    monkeypatch.setattr(poolers, "roi_align", is_on("crop", align))
    monkeypatch.setattr(roi_heads, "roi_align", is_on("outline", align))
    monkeypatch.setattr(RegionProposalNetwork, "forward", is_on("proposals", propose))
    monkeypatch.setattr(detector, "any_algorithm", lambda device: any_algorithm(cuda))
    with repeatable(cuda):
        learner(FORMS[name]).loss(batch(images, FORMS[name]), 0)
        assert torch.are_deterministic_algorithms_enabled()
    assert set(seen) == {("crop", False), ("outline", False), ("proposals", True)}


def coordinates(name, images, monkeypatch, precision):
    """All that a step computes of coordinates before its losses, on images of 800 pixels.

    The proposals are the anchors themselves: what the head says of them is rounded in bf16.
    """
    views = ViewPlan(views=(ViewSpec(size=800),))
    method = replace(FORMS[name], views=views, anchors=(50, 190, 330, 700))
    task, seen = learner(method).train(), {}
    rpn, heads = task.head.rpn, task.head.roi_heads
    for layer in (rpn.head.layer.cls_logits, rpn.head.layer.bbox_pred):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)

    def note(owner, attribute):
        function = getattr(owner, attribute)

        def noted(*arguments, **options):
            seen.setdefault(attribute, []).append(function(*arguments, **options))
            return seen[attribute][-1]

        monkeypatch.setattr(owner, attribute, noted)

    note(rpn.anchor_generator, "forward")
    note(rpn, "filter_proposals")
    note(rpn.box_coder, "encode")
    note(heads, "select_training_samples")
    note(roi_heads, "project_masks_on_boxes")
    with precision.autocast():
        terms = task.loss(batch(images, method, rows=(0, 1)), 0)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    assert len(seen) == 5
    return tree_leaves(seen), task


@pytest.mark.parametrize("name", ["fpn masks", "c4 masks"])
def test_coordinates_are_those_of_float32(name, images, monkeypatch):
    """In bf16 a pixel beyond 256 would be one of every second."""
    with monkeypatch.context() as patch:
        exact, _ = coordinates(name, images, patch, CPU)
    rounded, task = coordinates(name, images, monkeypatch, Precision(CPU.device, "bf16"))
    for one, other in zip(exact, rounded, strict=True):
        assert one.dtype == other.dtype != torch.bfloat16
        assert torch.equal(one, other)
    cells = task.head.rpn.anchor_generator.cell_anchors
    assert {cell.dtype for cell in cells} == {torch.float32}


def test_a_state_holds_every_tensor_once():
    for method in (*FORMS.values(), PIXELS):
        state = learner(method).state_dict()
        assert not any("layer4" in name and not name.startswith("encoder.") for name in state)
        pointers = [value.data_ptr() for value in state.values() if value.numel() > 1]
        assert len(set(pointers)) == len(pointers)


def test_it_is_torchvisions_faster_rcnn(images):
    """The same parts in torchvision's own model give the same boxes of the same images."""
    task = learner(SMALL).eval()
    torch.manual_seed(0)
    for parameter in task.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    views, sizes, _ = split_targets(batch(images, SMALL))

    class Backbone(torch.nn.Module):
        out_channels = 16

        def forward(self, x):
            from coview.dense.maps import forward_groups

            groups = forward_groups(task.encoder, x)
            return task.head.fpn({str(level): groups[level] for level in task.head.levels})

    model = FasterRCNN(
        Backbone(), rpn_anchor_generator=task.head.rpn.anchor_generator, rpn_head=task.head.rpn.head,
        box_roi_pool=task.head.roi_heads.box_roi_pool, box_head=task.head.roi_heads.box_head,
        box_predictor=task.head.roi_heads.box_predictor, image_mean=[0.0] * 3, image_std=[1.0] * 3,
        min_size=48, max_size=64, rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_test=50,
    ).eval()  # fmt: skip
    own = task.detect(views, sizes)
    with torch.no_grad():
        theirs = model(
            [view[:, : size[0], : size[1]] for view, size in zip(views, sizes, strict=True)]
        )
    assert sum(len(each["boxes"]) for each in own) > 0
    for mine, other in zip(own, theirs, strict=True):
        assert torch.allclose(mine["boxes"], other["boxes"], atol=1e-3)
        assert torch.allclose(mine["scores"], other["scores"], atol=1e-5)
        assert torch.equal(mine["labels"], other["labels"])


@pytest.mark.parametrize("name", ["fpn masks", "c4 masks"])
def test_images_that_do_not_fit_together_give_the_same_boxes(name, images):
    """Each is padded as it was, so that its maps are the same; up to the order of sums."""
    task = learner(FORMS[name]).eval()
    torch.manual_seed(0)
    for parameter in task.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    some = images.subset(np.arange(6))
    whole = detect_images(task, some, None)
    network = task.encoder.network
    with room_for(1, network.conv1) as given:
        parts = detect_images(task, some, None)
    assert given == [4, 2, *[1] * 6]
    assert sum(len(each.boxes) for each in whole) > 6
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-5)
        assert other.classes.tolist() == one.classes.tolist()
    shapes = []
    sizes = [(64, 64), (40, 64), (64, 33), (50, 50)]
    network.conv1.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[2:]))
    with room_for(1, network.conv1):
        _detect_in_parts(task, torch.rand(4, 3, 64, 64), sizes, PartSize(4))
    assert set(shapes) == {(64, 64)}
    with room_for(0, network.conv1), pytest.raises(DoesNotFit, match="One image does not fit"):
        detect_images(task, some, None)


def test_an_image_whose_pixels_do_not_fit_is_one_sentence(maps):
    task = learner(PIXELS)
    with (
        room_for(0, task.encoder.network.conv1),
        pytest.raises(DoesNotFit, match="One image does not fit into the memory of cpu; use small"),
    ):
        segment_images(task, maps)


def test_a_sample_depends_on_the_image_and_the_step_alone():
    sampler = KeyedSampler(16, 0.5, seed=0, part="anchors")
    labels = [
        torch.tensor([1.0] * 20 + [0.0] * 40 + [-1.0] * 9),
        torch.tensor([0.0] * 50 + [1.0] * 2),
    ]

    def draw(step, order):
        sampler.begin(step, [10 * place for place in order])
        positive, negative = sampler([labels[place] for place in order])
        return {place: (p, n) for place, p, n in zip(order, positive, negative, strict=True)}

    one, other, later = draw(0, [0, 1]), draw(0, [1, 0]), draw(1, [0, 1])
    for place in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(one[place], other[place], strict=True))
    assert not torch.equal(one[0][1], later[0][1])
    assert int(one[0][0].sum()) == 8
    assert int(one[0][1].sum()) == 8
    assert (int(one[1][0].sum()), int(one[1][1].sum())) == (2, 14)
    assert (sampler.sampled, sampler.positive) == (32, 10)
    assert not (one[0][0] & one[0][1]).any()


@cache
def parallel_case():
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp())
    write_coco(folder / "coco")
    write_voc(folder / "voc")
    (folder / "voc" / "classes.txt").write_text("ground\nrectangle\nellipse\n")
    return store(folder / "coco"), store(folder / "voc", semantic=True)


def same_gradient(ranks: Ranks, name: str) -> None:
    method, data = case(name, *parallel_case())
    whole, rows = (0, 1, 2, 3, 4), ((0, 1, 2), (3, 4))[ranks.rank]
    single = learner(method).train()
    terms, _ = gradients(
        single, batch(data, method, whole), torch.optim.SGD(single.parameters()), CPU
    )
    task = learner(method, ranks=ranks).train()
    mine, _ = gradients(
        task, batch(data, method, rows), torch.optim.SGD(task.parameters()), CPU, ranks
    )
    for key, term in terms.items():
        assert torch.allclose(ranks.mean(mine[key].detach()), term.detach(), atol=1e-4), key
    for (key, one), (_, other) in zip(
        single.named_parameters(), task.named_parameters(), strict=True
    ):
        if one.grad is not None:
            scale = one.grad.abs().max().clamp_min(1e-3)
            assert (one.grad - other.grad).abs().max() < 2e-3 * scale, key
    single.after_step(0)
    task.after_step(0)
    for key, value in single.state_dict().items():
        assert torch.allclose(value.float(), task.state_dict()[key].float(), atol=1e-4), key


def boxes_in_two_processes(ranks: Ranks) -> None:
    same_gradient(ranks, "fpn masks")


def c4_in_two_processes(ranks: Ranks) -> None:
    same_gradient(ranks, "c4")


def pixels_in_two_processes(ranks: Ranks) -> None:
    same_gradient(ranks, "pixels")


def test_two_processes_have_the_gradient_of_one():
    checks = [boxes_in_two_processes, c4_in_two_processes, pixels_in_two_processes]
    for name, faults in together(2, checks).items():
        assert faults == ["", ""], (name, *faults)


def test_rendered_boxes_lie_on_their_objects(images):
    """Rectangles of one color: inside of the box is that color, at any size and flip."""
    method = replace(SMALL, masks=True, scale=(0.8, 1.5), scales=5)
    for epoch in range(4):
        views, sizes, boxes, owners, classes, masks = render_objects(
            images, np.arange(8), method, seed=1, epoch=epoch
        )
        assert views.shape[2] % 32 == views.shape[3] % 32 == 0
        assert len(masks) == len(boxes)
        for box, owner, kind, mask in zip(boxes, owners, classes, masks, strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            assert 0 <= x1 < x2 <= sizes[owner, 1]
            assert 0 <= y1 < y2 <= sizes[owner, 0]
            columns, rows = torch.where(mask.any(0))[0], torch.where(mask.any(1))[0]
            assert abs(int(columns[0]) - x1) < 1.5
            assert abs(int(columns[-1]) + 1 - x2) < 1.5
            assert abs(int(rows[0]) - y1) < 1.5
            assert abs(int(rows[-1]) + 1 - y2) < 1.5
            if int(kind) == 1 and (owners == owner).sum() == 1:
                inner = views[owner, :, int(y1) + 3 : int(y2) - 3, int(x1) + 3 : int(x2) - 3]
                assert inner[0].mean() > 0.9


def test_rendered_maps_lie_on_their_images(maps):
    for epoch in range(3):
        views, labels = render_maps(maps, np.arange(6), PIXELS, seed=1, epoch=epoch)
        assert views.shape == (6, 3, 48, 48)
        bright = views.amax(1) > 0.75
        objects = (labels == 1) | (labels == 2)
        agree = ((bright == objects) | (labels == 255)).float().mean()
        assert agree > 0.97
        assert (views.permute(0, 2, 3, 1)[labels == 255] == 0).all()


def test_the_same_images_in_any_batch(images):
    one = render_objects(images, np.array([3]), SMALL, seed=0, epoch=2)
    many = render_objects(images, np.array([1, 3]), SMALL, seed=0, epoch=2)
    assert torch.equal(one[0][0], many[0][1])
    assert torch.equal(one[2], many[2][many[3] == 1])
    other = render_objects(images, np.arange(8), SMALL, seed=0, epoch=3)
    assert not torch.equal(
        other[0], render_objects(images, np.arange(8), SMALL, seed=0, epoch=2)[0]
    )


def test_sizes():
    method = replace(SMALL, views=ViewPlan(views=(ViewSpec(size=800),)), scale=(0.8, 1.0), scales=6)
    assert {round(800 * draw_scale(method, n)) for n in np.linspace(0, 0.999, 50)} == {
        640,
        672,
        704,
        736,
        768,
        800,
    }
    assert output_size(method, (480, 640), 1.0) == (800, 1067)
    assert output_size(method, (300, 900), 1.0) == (444, 1333)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"form": "c5"}, UnknownName), ({"box_head": "3fc"}, UnknownName), ({"batch_norm": "own"}, UnknownName),
        ({"anchors": (8, 4)}, InvalidValue), ({"classes": 0}, InvalidValue), ({"extra_norm": True}, InvalidValue),
        ({"form": "c4", "norm_in_heads": True}, InvalidValue), ({"max_ratio": 0.5}, InvalidValue),
        ({"scale": (2.0, 1.0)}, InvalidValue), ({"sampled": (0, 1)}, InvalidValue),
        ({"views": ViewPlan(views=(ViewSpec(size=8, jitter=Jitter()),))}, InvalidValue),
    ],
)  # fmt: skip
def test_values_out_of_range(changes, error):
    with pytest.raises(error):
        replace(SMALL, **changes)


def test_an_encoder_without_groups_is_refused():
    other = EncoderSpec(kind="torchvision", name="mobilenet_v3_small").build(seed=0)
    from coview.dense.learner import dense_learner

    with pytest.raises(InvalidValue, match="no residual network"):
        dense_learner(SMALL, other, seed=0)


def test_torchvisions_resnet_is_an_encoder(images):
    from coview.dense.learner import dense_learner

    spec = EncoderSpec(kind="torchvision", name="resnet18")
    method = Detector(
        **{**{f: getattr(SMALL, f) for f in SMALL.__dataclass_fields__}, "name": "r18"}
    )
    task = dense_learner(method, spec.build(seed=0), seed=0).train()
    assert task.head.levels == [0, 1, 2, 3]
    terms = task.loss(batch(images, method), 0)
    assert set(terms) == {"objectness", "proposal_boxes", "classes", "boxes"}
    assert encoder().features == 64
