"""The model's unicycle in torch, against the reference's arrays and against our numpy one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vla.qwen_vocabulary import GOLDEN, needs_golden

from alpamayo_ros.action_space import integrate
from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.unicycle import RELEASED_UNICYCLE, UnicycleActionSpace, UnicycleConfig

# What float32 makes of the reference's numbers, twice what is measured: 64 sums of some 80 m round
# at 4e-6 m each; its least squares are solved in float32, ours in float64.
FLOAT32 = {"v0": 6e-6, "xyz": 4e-5, "rot": 1e-6, "action": 1.5e-4, "speed": 2e-5, "heading": 8e-6}
FLOAT64 = {"v0": 1e-12, "xyz": 1e-12, "rot": 1e-13, "action": 1e-11, "speed": 1e-12}
FLOAT64 |= {"heading": 1e-12}
KINDS = [("", torch.float32, FLOAT32), ("_f64", torch.float64, FLOAT64)]
SPACE = UnicycleActionSpace()


def parts() -> dict[str, Any]:
    """The golden arrays as tensors."""
    arrays = np.load(GOLDEN / "parts_unicycle.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def close(ours: torch.Tensor, golden: torch.Tensor, limit: float) -> None:
    np.testing.assert_allclose(ours, golden, rtol=0, atol=limit)
    assert ours.dtype == golden.dtype


@needs_golden
@pytest.mark.parametrize(("suffix", "dtype", "limits"), KINDS)
def test_the_reference_s_future(suffix: str, dtype: Any, limits: dict[str, float]) -> None:
    """Speed at t0 and poses from actions."""
    golden = parts()
    history = golden["hist_xyz"].to(dtype), golden["hist_rot"].to(dtype)
    close(SPACE.estimate_speed_t0(*history), golden[f"v0{suffix}"], limits["v0"])
    xyz, rot = SPACE.to_trajectory(golden["action"].to(dtype), *history)
    close(xyz, golden[f"fut_xyz{suffix}"], limits["xyz"])
    close(rot, golden[f"fut_rot{suffix}"], limits["rot"])


@needs_golden
@pytest.mark.parametrize(("suffix", "dtype", "limits"), KINDS)
@pytest.mark.parametrize("real", (False, True))
def test_the_reference_s_actions(
    suffix: str, dtype: Any, limits: dict[str, float], real: bool
) -> None:
    """Actions and states of a future, one of its own and one that no unicycle drove.

    The reference keeps its acceleration normalised among the states."""
    golden = parts()
    of = golden["real_hist_index"] if real else torch.arange(6)
    history = golden["hist_xyz"][of].to(dtype), golden["hist_rot"][of].to(dtype)
    if real:
        future = golden["real_fut_xyz"].to(dtype), golden["real_fut_rot"].to(dtype)
    else:
        future = golden[f"fut_xyz{suffix}"], golden[f"fut_rot{suffix}"]
    action, states = SPACE.action_and_states(*future, *history)
    name = "real" if real else "roundtrip"
    close(action, golden[f"{name}_action{suffix}"], limits["action"])
    wanted = golden[f"{name}_states_v_a_theta{suffix}"]
    close(states.speed, wanted[..., 0], limits["speed"])
    close(states.heading, wanted[..., 2], limits["heading"])
    curvature = torch.zeros_like(states.acceleration)
    normalised = SPACE.normalise(torch.stack((states.acceleration, curvature), dim=-1))[..., 0]
    close(normalised, wanted[..., 1], limits["action"])
    if real:
        xyz, rot = SPACE.to_trajectory(golden[f"real_action{suffix}"], *history)
        close(xyz, golden[f"real_recon_xyz{suffix}"], limits["xyz"])
        close(rot, golden[f"real_recon_rot{suffix}"], limits["rot"])


@needs_golden
def test_rounded_constants() -> None:
    """A model cast to bfloat16 computes with constants rounded to it; the exact ones are seen."""
    golden = parts()
    rounded = UnicycleActionSpace().to(torch.bfloat16)
    assert float(rounded.accel_mean) == 0.029052734375
    assert float(rounded.accel_std) == 0.6796875
    assert float(rounded.curvature_std) == 0.026123046875
    assert float(rounded.curvature_mean) == pytest.approx(0.00026893615722, abs=1e-13)
    inputs = golden["action"], golden["hist_xyz"], golden["hist_rot"]
    xyz, rot = rounded.to_trajectory(*inputs)
    close(xyz, golden["fut_xyz_bf16_constants"], FLOAT32["xyz"])
    close(rot, golden["fut_rot_bf16_constants"], FLOAT32["rot"])
    with pytest.raises(AssertionError):
        xyz, _ = SPACE.to_trajectory(*inputs)
        close(xyz, golden["fut_xyz_bf16_constants"], FLOAT32["xyz"])


@needs_golden
def test_under_autocast() -> None:
    """bfloat16 autocast changes nothing: no product of matrices is involved."""
    golden = parts()
    inputs = golden["action"], golden["hist_xyz"], golden["hist_rot"]
    plain = SPACE.to_trajectory(*inputs)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        for ours, wanted in zip(SPACE.to_trajectory(*inputs), plain):
            np.testing.assert_array_equal(ours, wanted)


@needs_golden
def test_bounds() -> None:
    """The golden actions are all within; each side of each bound is found out."""
    golden = parts()
    np.testing.assert_array_equal(SPACE.within_bounds(golden["action"]), golden["within_bounds"])
    for physical in ([9.9, 0.0], [-9.9, 0.0], [0.0, 0.34], [0.0, -0.34]):
        action = SPACE.normalise(torch.tensor([[[0.0, 0.0], physical]]))
        assert SPACE.within_bounds(action).tolist() == [False]
        assert SPACE.within_bounds(action * 0.9).tolist() == [True]


def driven(speed: float, yaw_rate: float, lateral: float = 0.0) -> tuple[Any, Any]:
    """A history of constant speed and turn that ends at the origin, heading along x; float64."""
    yaw = yaw_rate * 0.1 * torch.arange(-15, 1, dtype=torch.float64)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    rows = (yaw.cos(), -yaw.sin(), zero, yaw.sin(), yaw.cos(), zero, zero, zero, one)
    rot = torch.stack(rows, dim=-1).reshape(1, 16, 3, 3)
    velocity = speed * torch.stack((yaw.cos(), yaw.sin()), dim=-1)
    back = ((velocity[1:] + velocity[:-1]) * 0.05).flip(0).cumsum(0).flip(0)
    xyz = torch.zeros((1, 16, 3), dtype=torch.float64)
    xyz[0, :-1, :2] = -back
    xyz[0, :, 2] = lateral
    return xyz, rot


@given(st.floats(-8.0, 30.0), st.floats(-0.5, 0.5))
def test_speed_of_a_steady_drive(speed: float, yaw_rate: float) -> None:
    """Right to what the ridge takes: 1e-4 of a system whose data weigh 2 to 4 costs up to 1e-4 of
    the speed. Signed: backwards is negative."""
    found = float(SPACE.estimate_speed_t0(*driven(speed, yaw_rate)))
    assert found == pytest.approx(speed, rel=2e-4, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.floats(-3.0, 3.0), min_size=128, max_size=128),
    st.floats(-5.0, 25.0),
    st.floats(-1.0, 1.0),
)
def test_like_the_numpy_one(values: list[float], speed: float, z: float) -> None:
    """`alpamayo_ros.action_space` and this integrate alike, in float64 to rounding."""
    action = torch.tensor(values, dtype=torch.float64).reshape(1, 64, 2)
    start = torch.tensor([speed], dtype=torch.float64)
    xyz, rot = SPACE.integrate(action, start, torch.tensor([z], dtype=torch.float64))
    wanted_xyz, wanted_rot = integrate(SPACE.denormalise(action)[0].numpy(), speed)
    np.testing.assert_allclose(xyz[0, :, :2], wanted_xyz[:, :2], atol=1e-10)
    np.testing.assert_allclose(rot[0], wanted_rot, atol=1e-12)
    assert (xyz[0, :, 2] == z).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(5.0, 25.0), st.floats(-1.0, 1.0), st.floats(-0.02, 0.02))
def test_smooth_actions_come_back(speed: float, acceleration: float, curvature: float) -> None:
    """A trajectory's actions drive it again, to 2 cm over 6.4 s: the smoothing's price."""
    xyz, rot = driven(speed, curvature * speed)
    action = SPACE.normalise(torch.tensor([acceleration * 0.5, curvature], dtype=torch.float64))
    future = SPACE.to_trajectory(action.expand(1, 64, 2), xyz, rot)
    again, _ = SPACE.to_trajectory(SPACE.to_action(*future, xyz, rot), xyz, rot)
    assert float((again - future[0]).norm(dim=-1).max()) < 0.02


def test_headings_that_pass_half_a_turn() -> None:
    """Two thirds of a circle to the left: a jump of 2 pi on the way would give a wild curvature."""
    xyz, rot = driven(8.0, 0.64)
    physical = torch.tensor([0.0, 0.08], dtype=torch.float64).expand(1, 64, 2)
    future = SPACE.to_trajectory(SPACE.normalise(physical), xyz, rot)
    found = SPACE.denormalise(SPACE.to_action(*future, xyz, rot))
    np.testing.assert_allclose(found[..., 1], 0.08, atol=2e-3)


def test_standstill_both_ways() -> None:
    """Nothing moves, and no division by the speed; 1e-8 m/s^2 is what float32 loses of the mean."""
    xyz, rot = driven(0.0, 0.0)
    future = torch.zeros((1, 64, 3)), torch.eye(3).expand(1, 64, 3, 3)
    found = SPACE.denormalise(SPACE.to_action(*future, xyz, rot))
    np.testing.assert_allclose(found, 0.0, atol=1e-8)


@pytest.mark.parametrize("persistent", (False, True))
def test_the_checkpoint_s_names(persistent: bool) -> None:
    """R1 stores the four constants, 1.5 does not."""
    space = UnicycleActionSpace(RELEASED_UNICYCLE, persistent=persistent)
    names = {"accel_mean", "accel_std", "curvature_mean", "curvature_std"}
    assert set(space.state_dict()) == (names if persistent else set())
    assert {name for name, _ in space.named_buffers()} == names
    assert all(buffer.shape == () for buffer in space.buffers())


def test_a_configuration_s_defaults() -> None:
    """What a config.json without entries means; the releases' own entries."""
    assert UnicycleConfig().curvature_bounds == (-0.2, 0.2)
    assert (UnicycleConfig().accel_mean, UnicycleConfig().accel_std) == (0.0, 1.0)
    assert RELEASED_UNICYCLE.curvature_bounds == (-0.33, 0.33)


@pytest.mark.parametrize(
    ("change", "said"),
    (
        ({"history_xyz": torch.zeros(1, 4, 3)}, r"history_xyz has shape \(1, 4, 3\)"),
        ({"history_xyz": torch.full((1, 16, 3), torch.inf)}, "history_xyz is not finite"),
        ({"future_xyz": torch.zeros(2, 64, 3)}, "behind 1 histories"),
        ({"future_rot": torch.zeros(1, 64, 4)}, r"\(1, n, 3, 3\) rotations are wanted"),
        ({"future_xyz": torch.full((1, 64, 3), torch.nan)}, "future's .* not finite"),
    ),
)
def test_wrong_input(change: dict[str, torch.Tensor], said: str) -> None:
    arguments = {
        "future_xyz": torch.zeros(1, 64, 3),
        "future_rot": torch.eye(3).expand(1, 64, 3, 3),
        "history_xyz": torch.zeros(1, 16, 3),
        "history_rot": torch.eye(3).expand(1, 16, 3, 3),
    }
    with pytest.raises(ModelError, match=said):
        SPACE.to_action(**(arguments | change))


def test_actions_of_another_batch() -> None:
    xyz, rot = driven(1.0, 0.0)
    with pytest.raises(ModelError, match=r"actions \(2, 64, 2\) for 1 histories"):
        SPACE.to_trajectory(torch.zeros(2, 64, 2), xyz, rot)
