"""torchvision's networks: taken apart they compute the same, and their weights are found or the message says where."""

from __future__ import annotations

import logging
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from tinynetworks import network
from torch import nn

import dnntrain
from dnntrain import build, spec
from dnntrain.errors import DataError, SpecError
from dnntrain.parts.architectures import architectures, zoo
from dnntrain.parts.architectures.zoo_chains import taken_apart
from dnntrain.parts.transforms import Resize
from dnntrain.yamltext import dump

NAMES = torchvision.models.list_models(module=torchvision.models)
# One of each family, and the size of the smallest pictures that it takes (about).
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 32,
    "vgg11": 32,
    "vit_b_32": 224,
}
TINY = "shufflenet_v2_x0_5"


def made(model: str) -> nn.Module:
    arguments = {"init_weights": True} if model in ("googlenet", "inception_v3") else {}
    found: nn.Module = torchvision.models.get_model(model, weights=None, **arguments)
    return found.eval()


def zoo_net(model: str = TINY, shape: tuple[int, ...] = (3, 32, 32), outputs: int = 5, **options: Any) -> nn.Sequential:
    return network({"name": "torchvision", "model": model, **options}, shape, outputs).eval()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of torch.hub, no folder of data, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub home"))
    monkeypatch.delenv("DNNTRAIN_DATA", raising=False)

    def unreachable(url: str, *, timeout: float) -> Any:
        assert 0 < timeout <= 60
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    folder = tmp_path / "hub home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """A network of torchvision whose statistics are not those that it was made with."""
    torch.manual_seed(3)
    model = made(TINY)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return model


def test_every_network_of_torchvision_is_known() -> None:
    assert zoo.known() == NAMES
    assert {zoo.family(name) for name in NAMES} == {zoo.family(name) for name in FAMILIES}


@pytest.mark.parametrize("model", FAMILIES)
def test_taken_apart_a_network_computes_the_same(model: str) -> None:
    torch.manual_seed(0)
    original = made(model)
    x = torch.randn(2, 3, FAMILIES[model], FAMILIES[model])
    if model.startswith("squeezenet"):
        original.classifier[2] = nn.Identity()  # the relu behind the logits, which is left out
    layers, head = taken_apart(original, zoo.family(model))
    with torch.inference_mode():
        expected = original(x)
        features = nn.Sequential(layers)(x)
        got = nn.functional.linear(features, head.weight.flatten(1), head.bias)
        assert features.ndim == 2
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


# The regnets compute their widths with tensors, which must then have numbers.
@pytest.mark.parametrize("model", [name for name in NAMES if not name.startswith("regnet")])
def test_every_weight_is_in_a_layer(model: str) -> None:
    with torch.device("meta"):
        original = made(model)
    layers, head = taken_apart(original, zoo.family(model))
    kept = {id(p) for layer in (*layers.values(), head) for p in layer.parameters()}
    left = {name.split(".")[0] for name, p in original.named_parameters() if id(p) not in kept}
    assert left <= {"AuxLogits", "aux1", "aux2"}
    assert isinstance(head, nn.Linear | nn.Conv2d)


@pytest.mark.parametrize("model", ["resnet18", "googlenet", "squeezenet1_1", "mobilenet_v3_small"])
def test_the_head_is_ours_and_on_top(model: str) -> None:
    ours = zoo_net(model, (3, 64, 64), 7)
    names = [name for name, _ in ours.named_children()]
    assert names[-1] == "output"
    assert isinstance(ours.output, nn.Linear)
    ours.train()
    outputs = ours(torch.randn(2, 3, 64, 64))
    assert isinstance(outputs, torch.Tensor)
    assert outputs.shape == (2, 7)


def test_the_output_is_drawn_by_its_initializer() -> None:
    drawn = network({"name": "torchvision", "model": TINY}, (3, 32, 32), 5, output_initializer="zeros")
    assert not drawn.output.weight.any()


def test_layers_have_torchvisions_names_where_these_are_names() -> None:
    names = [name for name, _ in zoo_net("resnet18").named_children()]
    assert names == [
        *("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "output")
    ]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_of_a_file_are_taken_over_but_for_the_head(theirs: nn.Module, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{ending}"
    if ending == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), path)
    ours = zoo_net(weights=str(path))
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if not name.startswith("output."):
            assert torch.equal(value, expected[name]), name
    assert ours.output.weight.shape == (5, 1024)


def test_files_of_every_age_fit(tmp_path: Path) -> None:
    old = made("densenet121").state_dict()
    aged = {}
    for name, value in old.items():
        for part in ("norm", "relu", "conv"):
            for number in "12":
                if "denselayer" in name:
                    name = name.replace(f".{part}{number}.", f".{part}.{number}.")
        if not name.endswith("num_batches_tracked"):
            aged[name] = value
    assert any(".norm.1." in name for name in aged)
    torch.save(aged, tmp_path / "old.pth")
    ours = zoo_net("densenet121", weights=str(tmp_path / "old.pth")).state_dict()
    assert torch.equal(
        ours["denseblock1.denselayer1.norm1.weight"], old["features.denseblock1.denselayer1.norm1.weight"]
    )
    torch.save(made("mnasnet0_5").state_dict(), tmp_path / "m.pth")
    zoo_net("mnasnet0_5", weights=str(tmp_path / "m.pth"))


def test_a_file_for_another_number_of_classes_is_as_good(tmp_path: Path) -> None:
    torch.save(torchvision.models.get_model(TINY, num_classes=4).state_dict(), tmp_path / "w.pth")
    assert zoo_net(weights=str(tmp_path / "w.pth")).output.out_features == 5


@pytest.mark.parametrize("other", ["shufflenet_v2_x1_0", "mobilenet_v3_small"])
def test_weights_of_another_network_are_refused(other: str, tmp_path: Path) -> None:
    torch.save(made(other).state_dict(), tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth does not belong to this network: "):
        zoo_net(weights=str(tmp_path / "w.pth"))


def published_name(model: str = TINY) -> str:
    return str(torchvision.models.get_model_weights(model)["DEFAULT"].url.rpartition("/")[2])


@pytest.mark.parametrize("place", ["hub", "data"])
def test_published_weights_are_found_on_this_machine(
    theirs: nn.Module, place: str, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "data":
        (tmp_path / "data").mkdir()
        monkeypatch.setenv("DNNTRAIN_DATA", str(tmp_path / "data"))
    folder = hub if place == "hub" else tmp_path / "data"
    torch.save(theirs.state_dict(), folder / published_name())
    ours = zoo_net(weights="DEFAULT")
    assert torch.equal(ours.conv1[0].weight, theirs.get_submodule("conv1.0").weight)


def test_without_network_the_message_says_where_it_looked_and_what_to_do(hub: Path) -> None:
    with pytest.raises(DataError) as caught:
        zoo_net(weights="IMAGENET1K_V1")
    said = str(caught.value)
    assert f"the weights {published_name()} are not in {hub}" in said
    assert "no route to host" in said
    assert f"put {published_name()} into {hub}" in said
    assert list(hub.iterdir()) == []


class Answer:
    """What a server sends, in pieces."""

    def __init__(self, content: bytes) -> None:
        self._pieces = [content[:1000], content[1000:], b""]

    def read(self, size: int) -> bytes:
        return self._pieces.pop(0)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_download_is_checked_and_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    from dnntrain.parts.architectures.zoo_weights import published

    content = bytes(range(256)) * 20
    name = f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(content))
    with pytest.raises(DataError, match="its checksum is wrong"):
        published("https://example.org/tiny-00000000.pth")
    assert list(hub.iterdir()) == []
    path = published(f"https://example.org/{name}")
    assert path == hub / name
    assert path.read_bytes() == content


def test_a_gray_picture_is_seen_as_three_equal_channels(theirs: nn.Module, tmp_path: Path) -> None:
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    grey, colored, six = (zoo_net(shape=(c, 32, 32), weights=str(tmp_path / "w.pth")).conv1[0] for c in (1, 3, 6))
    assert torch.equal(colored.weight, theirs.get_submodule("conv1.0").weight)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(grey(x[:, :1]), colored(x[:, :1].expand(-1, 3, -1, -1)))
        torch.testing.assert_close(six(x.repeat(1, 2, 1, 1)), colored(x))


@pytest.mark.parametrize("channels", [1, 12])
def test_new_kernels_for_other_channels_keep_the_variance(channels: int) -> None:
    torch.manual_seed(0)
    kernel = zoo_net("resnet18", (channels, 32, 32)).conv1.weight
    # torchvision draws with 2 / fan_out, and fan_in is channels / 3 of what it was.
    expected = 2 / (64 * 49) * 3 / channels
    assert kernel.shape == (64, channels, 7, 7)
    assert kernel.var().item() == pytest.approx(expected, rel=0.1)


def test_a_small_stem_keeps_small_pictures_large(tmp_path: Path) -> None:
    names = [name for name, _ in zoo_net("resnet18", stem="small").named_children()]
    assert "maxpool" not in names
    original = made("resnet18")
    torch.save(original.state_dict(), tmp_path / "w.pth")
    small = zoo_net("resnet18", stem="small", weights=str(tmp_path / "w.pth"))
    assert torch.equal(small.conv1.weight, original.conv1.weight[:, :, 2:5, 2:5])
    x = torch.randn(1, 3, 32, 32)
    assert small[:4](x).shape[-2:] == (32, 32)
    dense = zoo_net("densenet121", stem="small")
    assert "pool0" not in dict(dense.named_children())


def experiment(architecture: dict[str, Any], data: dict[str, Any] | None = None, **model: Any) -> spec.Spec:
    tree = {
        "data": {"dataset": "digits", "limit": 32, "validation": {"size": 16}, "batch_size": 8, **(data or {})},
        "model": {"architecture": {"name": "torchvision", **architecture}, **model},
        "training": {"epochs": 1},
    }
    return spec.loads(dump(tree), source="t.yaml")


def resolved(read: spec.Spec) -> tuple[spec.Spec, build.Data]:
    data = build.open_data(read)
    return build.resolve(read, data), data


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"model": "resnet19"}, "torchvision has no network 'resnet19' for classification"),
        ({"model": "fasterrcnn_resnet50_fpn"}, "has no network 'fasterrcnn_resnet50_fpn' for classification"),
        ({"model": TINY, "weights": "IMAGENET1K_V9"}, f"has no weights 'IMAGENET1K_V9' for {TINY}"),
        ({"model": "vgg11", "stem": "small"}, "there is no small stem for vgg11"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_torchvision_does_not_have_is_said_before_anything_is_built(
    architecture: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=rf"t\.yaml:\d+:\d+: .*{message}"):
        experiment(architecture)


@pytest.mark.parametrize(
    "part",
    [
        {"activation": "relu"},
        {"initializer": "zeros"},
        {"normalization": "none"},
        {"dropout": {"name": "dropout", "rate": 0.2}},
    ],
    ids=str,
)
def test_parts_that_it_brings_along_cannot_be_chosen(part: dict[str, Any]) -> None:
    (key,) = part
    with pytest.raises(SpecError, match=f"torchvision has its own {key}s"):
        experiment({"model": TINY}, **part)


def test_a_resolved_experiment_can_be_read_again() -> None:
    full, _ = resolved(experiment({"model": TINY}))
    assert full.model.activation == full.model.normalization == full.model.initializer == "auto"
    assert full.model.output_initializer.name == "glorot_uniform"
    assert spec.loads(spec.dump(full)) == full


@pytest.mark.parametrize("model", ["vit_b_32", "inception_v3", "alexnet"])
def test_pictures_of_a_wrong_size_are_located_and_the_right_one_named(model: str) -> None:
    full, data = resolved(experiment({"model": model}))
    right = 299 if model == "inception_v3" else 224
    with pytest.raises(
        SpecError, match=rf"t\.yaml:\d+:\d+: .*cannot take pictures of 8 x 8: (.|\n)*data\.resize: {right}"
    ):
        build.build_model(full, data.shape, 10)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(SpecError, match="needs pictures"):
        network({"name": "torchvision", "model": TINY}, (64,), 3)


def test_pretrained_networks_see_pictures_standardized_as_in_their_training(tmp_path: Path) -> None:
    torch.save(made(TINY).state_dict(), tmp_path / "w.pth")
    full, data = resolved(experiment({"model": TINY, "weights": str(tmp_path / "w.pth")}))
    assert full.data.standardize == "pretrained"
    x = torch.tensor([[[[0, 16]]]], dtype=torch.uint8)
    mean, deviation = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    got = build.standardizer(full, data)(x).flatten().tolist()
    assert got == pytest.approx([-mean / deviation, (1 - mean) / deviation], rel=1e-5)
    fresh, _ = resolved(experiment({"model": TINY}))
    assert fresh.data.standardize == "channel"


def test_colors_are_standardized_as_torchvision_does_it() -> None:
    options = architectures["torchvision"].options(model="resnet18", weights="DEFAULT")
    found = zoo.moments(options)
    assert found is not None
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert (found.mean, found.deviation) == (tuple(preset.mean), tuple(preset.std))


@pytest.mark.parametrize("model", ["googlenet", "inception_v3"])
def test_those_that_shift_their_inputs_are_standardized_so_at_once(model: str) -> None:
    found = zoo.moments(architectures["torchvision"].options(model=model, weights="DEFAULT"))
    assert found is not None
    picture = torch.rand(1, 3, 5, 5)
    shifting = torchvision.models.get_model(model, weights=None, init_weights=False, transform_input=True)
    usual = torchvision.transforms.functional.normalize(picture, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ours = torchvision.transforms.functional.normalize(picture, found.mean, found.deviation)
    torch.testing.assert_close(ours, shifting._transform_input(usual), rtol=1e-4, atol=1e-5)


def test_pretrained_statistics_need_pretrained_layers() -> None:
    with pytest.raises(SpecError, match=r"there are no pretrained layers to standardize for"):
        resolved(experiment({"model": TINY}, {"standardize": "pretrained"}))


def test_pictures_far_from_the_pretraining_are_remarked_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(made(TINY).state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, logger="dnntrain"):
        zoo_net(weights=str(tmp_path / "w.pth"), shape=(3, 200, 224))
        assert not caplog.records
        zoo_net(weights=str(tmp_path / "w.pth"))
    assert "pictures of 224 x 224, and these are 32 x 32: data.resize: 224 would help" in caplog.text


@pytest.mark.filterwarnings("ignore:the weights")
def test_a_finished_run_needs_the_pretrained_file_no_more(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(made(TINY).state_dict(), path)
    read = experiment({"model": TINY, "weights": str(path)}, {"resize": 32})
    record = dnntrain.train(read, runs=tmp_path / "runs", test=True)
    path.unlink()
    trained = dnntrain.load(record.path)
    x = torch.randint(0, 17, (2, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(trained(x), trained(Resize((32, 32))(x)))
    assert record.test is not None
    assert dnntrain.evaluate(record.path)["test/loss"] == pytest.approx(record.test["test/loss"], rel=1e-5)
