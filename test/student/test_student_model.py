"""The student's shapes, its start at the baseline, and its two halves."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm: make test installs it", allow_module_level=True)

from student import small  # noqa: E402

from alpamayo_ros import resources  # noqa: E402
from alpamayo_ros.backends.kinematic import KinematicBackend  # noqa: E402
from alpamayo_ros.distill.shard import ImageForm  # noqa: E402
from alpamayo_ros.errors import ModelError  # noqa: E402
from alpamayo_ros.manifest import load_manifest  # noqa: E402
from alpamayo_ros.student import inputs  # noqa: E402
from alpamayo_ros.student.config import StudentConfig, load_student_config  # noqa: E402
from alpamayo_ros.student.model import Student  # noqa: E402


def ready(config: StudentConfig) -> Student:
    """A student whose normalisations have seen something."""
    torch.manual_seed(0)
    student = Student(config)
    student.train()
    student.encode(torch.randn(4, len(config.cameras), 3, *config.input_size))
    return student.eval()


def policy_tensors(config: StudentConfig, rows: int) -> dict[str, torch.Tensor]:
    arrays = inputs.policy_input(config, small.sample())
    fields = {name: getattr(arrays, name) for name in arrays.__dataclass_fields__}
    return {
        name: torch.from_numpy(np.stack([np.asarray(array)] * rows))
        for name, array in fields.items()
    }


def frames_of(config: StudentConfig, sample) -> torch.Tensor:
    frames = [inputs.frame_images(config, sample, k) for k in range(4)]
    return torch.from_numpy(np.stack(frames, axis=1))[None]


@pytest.mark.parametrize("head", ["regression", "flow"])
def test_an_untrained_student_is_the_kinematic_baseline(head: str) -> None:
    config = dataclasses.replace(small.CONFIG, head=head)
    student, sample = ready(config), small.sample()
    images = frames_of(config, sample)
    with torch.no_grad():
        action = student(images, **policy_tensors(config, 1))
    prior = policy_tensors(config, 1)["prior_action"]
    assert torch.equal(action, prior)
    backend = KinematicBackend(load_manifest("kinematic"))
    backend.load()
    planned = inputs.denormalise(config, action[0].numpy())
    np.testing.assert_allclose(planned, backend.plan(sample).action, atol=1e-6)


@pytest.mark.parametrize("neck", ["flatten", "grid"])
def test_shapes(neck: str) -> None:
    config = dataclasses.replace(small.CONFIG, neck=neck, head="flow")
    student = ready(config)
    features = student.encode(torch.randn(2, 4, 3, 32, 64))
    assert features.shape == (2, 4, config.image_tokens, config.width)
    assert config.image_tokens == (2 if neck == "flatten" else 8)
    action = student.policy(
        torch.stack([features] * 4, dim=2), **policy_tensors(config, 2), noise=torch.randn(2, 64, 2)
    )
    assert action.shape == (2, 64, 2)


def test_encoding_frames_one_by_one_is_encoding_them_together() -> None:
    """Exactly: a vehicle keeps the features of the frames before."""
    student = ready(small.CONFIG)
    torch.nn.init.normal_(student.out.weight)
    images = frames_of(small.CONFIG, small.sample())
    rest = policy_tensors(small.CONFIG, 1)
    with torch.no_grad():
        alone = torch.stack([student.encode(images[:, :, k]) for k in range(4)], dim=2)
        together = student.encoder(images.flatten(0, 2)).reshape(alone.shape)
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            student.policy(alone, **rest), student(images, **rest), rtol=0, atol=1e-5
        )


def test_a_masked_camera_says_nothing() -> None:
    student = ready(small.CONFIG)
    torch.nn.init.normal_(student.out.weight)
    rest = policy_tensors(small.CONFIG, 1)
    rest["camera_mask"] = torch.tensor([[1.0, 1.0, 0.0, 1.0]])
    features = torch.randn(1, 4, 4, 2, 32)
    other = features.clone()
    other[:, 2] = torch.randn(1, 4, 2, 32)
    with torch.no_grad():
        assert torch.equal(student.policy(features, **rest), student.policy(other, **rest))
        other[:, 1] = 0.0
        assert not torch.equal(student.policy(features, **rest), student.policy(other, **rest))


@pytest.mark.parametrize(("name", "millions"), [("student_60m", 60), ("student_200m", 200)])
def test_the_recipes_sizes(name: str, millions: int) -> None:
    config = load_student_config(resources.resource("config", f"{name}.yaml"))
    with torch.device("meta"):
        count = sum(p.numel() for p in Student(config).parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student_60m", "student_200m"])
def test_the_recipes_students_take_a_step(name: str) -> None:
    config = load_student_config(resources.resource("config", f"{name}.yaml"))
    config = dataclasses.replace(config, input_size=(64, 96))  # the same layers, fewer cells
    # Ones and noise instead of an initialisation, which takes longer than the step.
    with torch.device("meta"):
        student = Student(config).train()
    student.to_empty(device="cpu")
    for name, tensor in student.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0.0, tensor[0].numel() ** -0.5)
        else:
            tensor.fill_(1.0)
        if name.startswith("out."):
            tensor.zero_()
    parameters = policy_tensors(config, 1)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01)
    action = student(torch.randn(1, 4, 4, 3, 64, 96), **parameters)
    (action - parameters["prior_action"] - 1.0).square().mean().backward()
    optimiser.step()
    assert student.out.weight.abs().max() > 0
    assert all(torch.isfinite(p).all() for p in student.parameters())


@pytest.mark.parametrize(
    ("text", "command"),
    [("Turn left in 30m", 1), ("go STRAIGHT", 2), ("Turn right", 3), (None, 0), ("left, right", 0)],
)
def test_commands(text: str | None, command: int) -> None:
    assert inputs.command_of(text) == command


def test_images_are_cropped_and_averaged_over_areas() -> None:
    """4 x 9 pixels of the crop become one, by their mean."""
    image = np.zeros((320, 576, 3), np.uint8)
    image[64:72, :9] = (80, 40, 20)
    small_image = inputs.reduced(small.CONFIG, 0, image)
    assert small_image.shape == (32, 64, 3)
    assert small_image[0, 0].tolist() == [80, 40, 20]
    assert small_image[1:].max() == 0 and small_image[0, 1:].max() == 0
    with pytest.raises(ValueError, match="100 x 100"):
        inputs.reduced(small.CONFIG, 0, np.zeros((100, 100, 3), np.uint8))


def test_each_camera_may_have_rows_of_its_own() -> None:
    """One pair is for all; the form in which labels keep pictures has them too."""
    pairs = ((96, 288), (96, 288), (96, 288), (32, 288))
    config = dataclasses.replace(small.CONFIG, crop_rows=pairs)
    assert small.CONFIG.crop_rows == ((64, 320),) * 4
    image = np.zeros((320, 576, 3), np.uint8)
    image[32:96] = 200  # what only the last camera takes
    assert [inputs.reduced(config, camera, image).max() > 0 for camera in range(4)] == [
        False, False, False, True,
    ]  # fmt: skip
    assert StudentConfig(**config.to_dict()) == config
    assert ImageForm.from_dict(ImageForm.of(config).to_dict()) == ImageForm.of(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": "no_such_net"}, "no backbone 'no_such_net'"),
        ({"stride": 3, "input_size": (33, 66)}, "no feature map of stride 3"),
    ],
)
def test_a_backbone_that_cannot_be_had(change: dict, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Student(dataclasses.replace(small.CONFIG, **change))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width: many", "width is 'many'"),
        ("wide: 3", "unknown wide"),
        ("input_size: [33, 64]", "no multiple of the stride"),
        ("cameras: [front_wide, cross_left]", "cameras want the order"),
        ("frames: [3, 4]", "frames"),
        ("crop_rows: [96]", "crop_rows is"),
        ("crop_rows: [[0, 320], [0, 320]]", "2 pairs for 4 cameras"),
        ("crop_rows: [[0, 320], [0, 320], [0, 330], [0, 320]]", "not within 0"),
    ],
)
def test_a_configuration_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "student.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=said):
        load_student_config(path)


def test_actions_are_averaged_over_the_waypoints_beside() -> None:
    """A step between two queries becomes a ramp; the ends and what is level stay."""
    config = dataclasses.replace(small.CONFIG, smooth=9)
    action = np.zeros((64, 2))
    action[40:, 1] = 0.05
    ramp = inputs.smoothed(config, action)[:, 1]
    np.testing.assert_allclose(np.diff(ramp)[35:44], 0.05 / 9, atol=1e-12)
    np.testing.assert_allclose(ramp[[0, 35, 44, 63]], [0.0, 0.0, 0.05, 0.05], atol=1e-12)
    np.testing.assert_allclose(inputs.smoothed(small.CONFIG, action), action)
