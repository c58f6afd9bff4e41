import pytest
import torch

from coview.core.errors import InvalidValue, UnknownName
from coview.encoders import resnet
from coview.planning.defaults import default_finetuning, default_recipe, ladder
from coview.training import choose_device, choose_precision
from coview.training.distribution import check_devices, local_device
from coview.training.precision import _say_once, computes_in_bf16, runs_on

CPU = torch.device("cpu")


def set_gpus(monkeypatch, *capabilities, built=("sm_75", "sm_80", "sm_86", "sm_90", "sm_120")):
    """Pretend GPUs of these compute capabilities and a torch that is built for ``built``."""
    _say_once.cache_clear()
    for name, value in {
        "is_available": lambda: bool(capabilities), "device_count": lambda: len(capabilities),
        "get_arch_list": lambda: list(built), "get_device_name": lambda device: f"GPU {device}",
        "get_device_capability": lambda device: capabilities[device.index],
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.parametrize("fast", [True, False])
def test_precision_auto_follows_the_hardware(monkeypatch, fast):
    monkeypatch.setattr("coview.training.precision.computes_in_bf16", lambda device: fast)
    assert choose_precision("auto", CPU).format == ("bf16" if fast else "fp32")


@pytest.mark.parametrize(("amx", "avx512"), [(True, False), (False, True), (False, False)])
def test_precision_knows_cpus_that_compute_in_bf16(monkeypatch, amx, avx512):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert computes_in_bf16(CPU) is (amx or avx512)


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_precision_knows_cuda_devices_that_compute_in_bf16(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_in_bf16(torch.device("cuda", 0)) is fast


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_precision_is_that_of_matrix_products(asked, dtype):
    with choose_precision(asked, CPU).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_precision_unknown_is_refused():
    with pytest.raises(UnknownName, match="bf16"):
        choose_precision("bf61", CPU)


def test_precision_lays_weights_out_channels_last_and_activations_follow():
    module = choose_precision("fp32", CPU).prepare(torch.nn.Conv2d(3, 4, 3))
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert module(torch.rand(2, 3, 5, 5)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("channels", "stride", "kernel", "sound"),
    [(4, 2, 1, False), (15, 2, 1, False), (16, 2, 1, True), (4, 1, 1, True), (4, 2, 3, True)],
)
def test_precision_keeps_thin_strided_shortcuts_out_of_channels_last(
    channels, stride, kernel, sound
):
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, channels, 3), torch.nn.Conv2d(channels, 8, kernel, stride)
    )
    module = choose_precision("fp32", CPU).prepare(layers)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last) is sound


@pytest.mark.parametrize("available", [True, False])
def test_device_auto_is_cuda_where_there_is_one(monkeypatch, capsys, available):
    set_gpus(monkeypatch, *[(8, 9)] * available)
    assert choose_device().type == ("cuda" if available else "cpu")
    assert capsys.readouterr().out == ""


def test_a_gpu_that_torch_has_no_code_for_is_not_taken(monkeypatch, capsys):
    """torch.cuda.is_available() is true of it; its first operation would fail."""
    set_gpus(monkeypatch, (6, 1))
    assert [choose_device(), choose_device(), local_device()] == [CPU] * 3
    printed = capsys.readouterr().out
    assert printed.startswith("The CPU is taken: GPU cuda:0 has compute capability 6.1, and torch ")
    assert "built for sm_75, sm_80, sm_86, sm_90, sm_120 alone; install a build" in printed
    assert printed.count("\n") == 1
    for name in ("cuda", "cuda:0"):
        with pytest.raises(InvalidValue, match=r"cuda.*6\.1, and torch.*or take `device` cpu\.$"):
            choose_device(name)


def test_processes_on_gpus_that_torch_has_no_code_for(monkeypatch):
    set_gpus(monkeypatch, (6, 1), (6, 1))
    check_devices(3, "auto")  # all take the CPU
    with pytest.raises(InvalidValue, match="this machine has 2 GPUs"):
        check_devices(3, "cuda")
    set_gpus(monkeypatch, (8, 6), (6, 1))
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert local_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InvalidValue, match="GPU cuda:1 has compute capability"):
        local_device()


@pytest.mark.parametrize(
    ("architecture", "capabilities", "others"),
    [
        ("sm_80", [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0)]), ("sm_86", [(8, 9)], [(8, 0)]),
        ("sm_90a", [(9, 0)], [(9, 1), (10, 0)]), ("sm_120", [(12, 0), (12, 1)], [(10, 0), (13, 0)]),
        ("sm_100f", [(10, 3)], [(12, 0)]), ("compute_120", [(12, 0), (13, 0)], [(10, 0)]),
        ("compute_90a", [(9, 0)], [(10, 0)]), ("compute_100f", [(10, 3)], [(12, 0)]),
    ],
)  # fmt: skip
def test_code_runs_on_later_gpus_of_its_kind(monkeypatch, architecture, capabilities, others):
    assert [runs_on(architecture, each) for each in capabilities] == [True] * len(capabilities)
    assert [runs_on(architecture, each) for each in others] == [False] * len(others)
    for capability in [*capabilities, *others]:
        set_gpus(monkeypatch, capability, built=("sm_50", architecture))
        assert choose_device().type == ("cuda" if capability in capabilities else "cpu")


@pytest.mark.parametrize("built", [(), ("gfx90a", "gfx1100")])
def test_a_gpu_is_taken_where_torch_does_not_say_what_it_is_built_for(monkeypatch, built):
    set_gpus(monkeypatch, (9, 0), built=built)
    assert choose_device() == choose_device("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["cuda:77", "tpu", "vulkan"])
def test_device_that_is_absent_is_refused(name):
    with pytest.raises(InvalidValue, match=name):
        choose_device(name)


def strided(kernel, stride=2):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.Conv2d(16, 32, kernel, stride, kernel // 2)
    )


@pytest.mark.parametrize(
    ("network", "size", "sound"),
    [
        (strided(3), 2, False), (strided(3), 1, False), (strided(3), 3, True),
        (strided(7), 2, False), (strided(1), 2, True), (strided(3, stride=1), 2, True),
        (resnet(18, width=0.25), 16, False), (resnet(18, width=0.25), 17, True),
        (resnet(18, width=0.25), 32, True),
    ],
)  # fmt: skip
def test_precision_auto_is_float32_where_a_cpu_would_stride_over_one_pixel_in_bf16(
    monkeypatch, network, size, sound
):
    monkeypatch.setattr("coview.training.precision.computes_in_bf16", lambda device: True)
    modes = [part.training for part in network.modules()]
    found = choose_precision("auto", CPU, network=network, sizes=(64, size))
    assert found.format == ("bf16" if sound else "fp32")
    assert [part.training for part in network.modules()] == modes
    assert not any(part._forward_pre_hooks for part in network.modules())


def test_precision_bf16_over_one_pixel_is_refused_on_a_cpu_alone():
    with pytest.raises(InvalidValue, match=r"`precision` is bf16.*single input pixel"):
        choose_precision("bf16", CPU, network=strided(3), sizes=(2,))
    assert choose_precision("bf16", torch.device("cuda"), network=strided(3), sizes=(2,))


@pytest.mark.skipif(not computes_in_bf16(CPU), reason="the CPU does not compute in bf16")
@pytest.mark.parametrize(("kernel", "size"), [(3, 3), (7, 3), (1, 2), (3, 33)])
def test_precision_sound_bf16_gives_the_gradient_of_float32(kernel, size):
    """If this fails, a convolution that was thought sound is not: see docs/decisions/0008."""
    network = strided(kernel)
    images = torch.rand(8, 3, size, size)
    found = []
    for name in ("bf16", "fp32"):
        rubbish = [torch.full((200_000,), 1e30) for _ in range(3)]
        del rubbish  # what a buffer that is read before it is written would hold
        network.zero_grad()
        with choose_precision(name, CPU, network=network, sizes=(size,)).autocast():
            network(images).float().square().sum().backward()
        found.append(network[1].weight.grad.clone())
    assert (found[0] - found[1]).abs().max() < 0.05 * found[1].abs().max()


def test_the_gpu_of_a_mac_is_taken_where_it_is_named_and_computes_in_float32(monkeypatch):
    """As far as it can be tested without one: nothing of torch is asked for there."""
    made = []
    monkeypatch.setattr(torch, "empty", lambda *size, device: made.append(device))
    device = choose_device("mps")
    assert local_device("mps") == device
    monkeypatch.undo()
    assert (device.type, made) == ("mps", [torch.device("mps")] * 2)
    assert choose_precision("auto", device).format == "fp32"
    moved = []

    class Layer(torch.nn.Conv2d):
        def to(self, *args, **settings):
            moved.append(args or settings)
            return self

    choose_precision("auto", device).prepare(Layer(3, 4, 3))
    assert moved == [(device,)]  # not in channels-last layout
    assert default_recipe("simclr", side=96, images=5000, device="mps") == default_recipe(
        "simclr", side=96, images=5000, device="cpu"
    )
    assert ladder("mps", 96) == ladder("cpu", 96)
    assert default_finetuning("mps").name == "finetune-cpu"


def test_a_mac_is_not_chosen_by_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == CPU


def test_a_mac_that_is_not_there_is_one_sentence():
    with pytest.raises(InvalidValue, match="'mps', which this machine does not have"):
        choose_device("mps")


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_is_named_without_touching_it(monkeypatch, name, index):
    """A tensor on GPU 0 in each process of torchrun would take memory of it for nothing."""
    set_gpus(monkeypatch, (8, 0), (8, 0))
    monkeypatch.setattr(torch, "empty", None)
    assert choose_device(name) == torch.device("cuda", index)
    with pytest.raises(InvalidValue, match="does not have"):
        choose_device("cuda:2")
