"""Parameter counts of the published networks (README, notebook and checkpoints of SimCLR)."""

import pytest

from coview.encoders import EncoderSpec

TRAINABLE = {  # depth: 1x, 1x+SK, 2x, 2x+SK, 3x, 3x+SK, 4x
    50: (23_508_032, 35_215_584, 93_907_072, 140_306_048, 211_197_120, 315_493_600, 375_378_176),
    101: (42_500_160, 64_662_304, 169_771_136, 257_132_224, 381_812_928, 578_260_288, 678_625_536),
    152: (58_143_808, 88_940_896, 232_253_568, 353_398_528, 522_329_280, 794_704_160, 928_370_944),
    200: (62_624_832, 95_982_944, 250_128_512, 381_113_088, 562_511_040, 856_722_720, 999_772_416),
}
COLUMNS = ((1, False), (1, True), (2, False), (2, True), (3, False), (3, True), (4, False))
RUNNING = {  # depth, width, SK: running means and variances
    (50, 1, False): 53_120, (50, 1, True): 61_824, (50, 2, False): 106_240,
    (50, 2, True): 122_816, (50, 4, False): 212_480,
    (101, 1, False): 105_344, (101, 1, True): 123_840,
    (152, 1, False): 151_424, (152, 1, True): 178_688,
    (152, 2, True): 354_368, (152, 3, True): 531_200,
}  # fmt: skip
OTHERS = [
    ({"depth": 18, "projection_in_first_group": True}, 11_180_736),
    ({"depth": 34, "projection_in_first_group": True}, 21_288_896),
    ({"depth": 18}, 11_176_512),
    ({"depth": 34}, 21_284_672),
    ({"depth": 18, "projection_in_first_group": True, "stem": "small"}, 11_173_056),
    ({"depth": 34, "projection_in_first_group": True, "stem": "small"}, 21_281_216),
    ({"depth": 18, "stem": "small"}, 11_168_832),
    ({"depth": 34, "stem": "small"}, 21_276_992),
    ({"depth": 50, "stem": "small"}, 23_500_352),
    ({"depth": 101, "stem": "small"}, 42_492_480),
    ({"depth": 50, "stem": "small", "selective_kernels": True}, 35_188_672),
]
LAYERS = {  # depth, SK: convolutions, BatchNorms
    (50, False): (53, 53), (101, False): (104, 104), (152, False): (155, 155),
    (200, False): (203, 203), (50, True): (87, 71), (101, True): (172, 139),
    (152, True): (257, 207),
}  # fmt: skip


def trainable(spec):
    return sum(parameter.numel() for parameter in spec.build_on_meta().parameters())


def row(depth, column):
    width, selective = COLUMNS[column]
    return EncoderSpec(depth=depth, width=width, selective_kernels=selective)


@pytest.mark.parametrize("depth", TRAINABLE)
@pytest.mark.parametrize("column", range(7))
def test_bottleneck_network_has_the_published_parameters(depth, column):
    assert trainable(row(depth, column)) == TRAINABLE[depth][column]


@pytest.mark.parametrize(("fields", "count"), OTHERS)
def test_other_network_has_the_derived_parameters(fields, count):
    assert trainable(EncoderSpec(**fields)) == count


@pytest.mark.parametrize(("key", "count"), RUNNING.items())
def test_running_statistics_have_the_published_number(key, count):
    depth, width, selective = key
    network = EncoderSpec(depth=depth, width=width, selective_kernels=selective).build_on_meta()
    running = [b for name, b in network.named_buffers() if "running" in name]
    assert sum(buffer.numel() for buffer in running) == count


@pytest.mark.parametrize(("key", "counts"), LAYERS.items())
def test_layers_are_as_many_as_in_the_published_checkpoints(key, counts):
    depth, selective = key
    network = EncoderSpec(depth=depth, selective_kernels=selective).build_on_meta()
    kinds = [type(module).__name__ for module in network.modules()]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d")) == counts


@pytest.mark.parametrize(
    ("width", "base"), [(1 / 4, 16), (1 / 3, 21), (0.3, 19), (1 / 200, 1), (1.5, 96), (3, 192)]
)
def test_fractional_width_gives_whole_channels(width, base):
    network = EncoderSpec(depth=18, width=width).build_on_meta()
    assert network.bn1.num_features == base
    assert network.features == 8 * base


def test_deep_stem_of_the_narrowest_network_keeps_a_channel():
    network = EncoderSpec(depth=50, width=1 / 64, selective_kernels=True).build_on_meta()
    assert network.conv1[0].out_channels == 1
    assert network.features == 32
