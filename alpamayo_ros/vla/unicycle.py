"""The model's actions <-> trajectories: accelerations and curvatures of a unicycle.

    v_{i+1}  = v_i + a_i dt
    th_{i+1} = th_i + k_i (v_i dt + a_i dt^2 / 2)
    x_{i+1}  = x_i + (v_i cos th_i + v_{i+1} cos th_{i+1}) dt / 2,  y likewise with sin

Everything is in the rig frame at t0: th_0 = 0, x_0 = y_0 = 0, and z is that of the last history
pose. The speed at t0, and actions of a given trajectory, are least squares with a penalty on
their roughness; the small systems are solved in float64 whatever comes in, because it costs the
same and never fails on a finite input. No matrix product: autocast would make it bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.trajectory_tokens import check_history, rotations_about_z

_CONSTANTS = ("accel_mean", "accel_std", "curvature_mean", "curvature_std")


@dataclass(frozen=True)
class UnicycleConfig:
    """`action_space_cfg` of a checkpoint; the defaults hold where its config.json has no entry.

    *_lambda weigh roughness, *_ridge size, in the least squares of heading, speed, acceleration
    (m/s^2) and curvature (1/m).
    """

    accel_mean: float = 0.0
    accel_std: float = 1.0
    curvature_mean: float = 0.0
    curvature_std: float = 1.0
    accel_bounds: tuple[float, float] = (-9.8, 9.8)
    curvature_bounds: tuple[float, float] = (-0.2, 0.2)
    dt: float = 0.1
    n_waypoints: int = 64
    theta_lambda: float = 1e-6
    theta_ridge: float = 1e-8
    v_lambda: float = 1e-6
    v_ridge: float = 1e-4
    a_lambda: float = 1e-4
    a_ridge: float = 1e-4
    kappa_lambda: float = 1e-4
    kappa_ridge: float = 1e-4


RELEASED_UNICYCLE = UnicycleConfig(
    accel_mean=0.02902694707164455,
    accel_std=0.6810426736454882,
    curvature_mean=0.0002692167976330542,
    curvature_std=0.026148280660833106,
    curvature_bounds=(-0.33, 0.33),
)


@dataclass(frozen=True)
class States:
    """Speeds m/s, accelerations m/s^2 and headings rad at the start of each step, (B, n) each."""

    speed: Tensor
    acceleration: Tensor
    heading: Tensor


class UnicycleActionSpace(nn.Module):
    """Normalised actions (B, n, 2), each (acceleration - mean) / std and curvature likewise.

    The four constants are buffers of the checkpoint's names: stored ones in R1 (`persistent`),
    not in 1.5. A model cast to bfloat16 rounds them, and the rounded ones are then used.
    """

    accel_mean: Tensor
    accel_std: Tensor
    curvature_mean: Tensor
    curvature_std: Tensor

    def __init__(self, config: UnicycleConfig = RELEASED_UNICYCLE, *, persistent: bool = True):
        super().__init__()
        self.config = config
        for name in _CONSTANTS:
            value = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, value, persistent=persistent)

    # --- normalisation ---

    def denormalise(self, action: Tensor) -> Tensor:
        """Normalised (..., 2) -> acceleration m/s^2 and curvature 1/m (..., 2)."""
        mean, std = self._constants(action)
        return action * std + mean

    def normalise(self, action: Tensor) -> Tensor:
        """The inverse: acceleration m/s^2 and curvature 1/m (..., 2) -> normalised (..., 2)."""
        mean, std = self._constants(action)
        return (action - mean) / std

    def within_bounds(self, action: Tensor) -> Tensor:
        """Whether all of a row's accelerations and curvatures are within bounds: (B,) bool."""
        acceleration, curvature = self.denormalise(action).unbind(dim=-1)
        (low_a, high_a), (low_k, high_k) = self.config.accel_bounds, self.config.curvature_bounds
        good = (acceleration >= low_a) & (acceleration <= high_a)
        return (good & (curvature >= low_k) & (curvature <= high_k)).all(dim=-1)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations (2,), float32 or the dtype of `like` where it is wider."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        mean = torch.stack((self.accel_mean, self.curvature_mean))
        return mean.to(dtype), torch.stack((self.accel_std, self.curvature_std)).to(dtype)

    # --- actions to a trajectory ---

    def to_trajectory(
        self, action: Tensor, history_xyz: Tensor, history_rot: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normalised actions (B, n, 2) after a history (B, 16, 3) m, (B, 16, 3, 3) ->
        xyz (B, n, 3) m, rotations (B, n, 3, 3) at t0 + dt … t0 + n dt, no less than float32."""
        if action.ndim != 3 or len(action) != len(history_xyz) or action.shape[-1] != 2:
            raise ModelError(
                f"actions {tuple(action.shape)} for {len(history_xyz)} histories; wanted "
                f"({len(history_xyz)}, {self.config.n_waypoints}, 2)"
            )
        speed_t0 = self.estimate_speed_t0(history_xyz, history_rot)
        return self.integrate(action, speed_t0, history_xyz[:, -1, 2])

    def integrate(self, action: Tensor, speed_t0: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """`to_trajectory` from a known speed (B,) m/s and height z (B,) m: n samples that share a
        history need its speed once."""
        dt = self.config.dt
        acceleration, curvature = self.denormalise(action).unbind(dim=-1)
        start = speed_t0.to(acceleration).unsqueeze(-1)
        speed = torch.cat((start, start + (acceleration * dt).cumsum(dim=-1)), dim=-1)
        turned = curvature * speed[..., :-1] * dt + curvature * acceleration * (dt * dt / 2)
        heading = torch.cat((torch.zeros_like(start), turned.cumsum(dim=-1)), dim=-1)
        ahead, left = speed * heading.cos(), speed * heading.sin()
        x = ((ahead[..., :-1] + ahead[..., 1:]) * (dt / 2)).cumsum(dim=-1)
        y = ((left[..., :-1] + left[..., 1:]) * (dt / 2)).cumsum(dim=-1)
        height = z.to(x).unsqueeze(-1).expand_as(x)
        return torch.stack((x, y, height), dim=-1), rotations_about_z(heading[..., 1:])

    def estimate_speed_t0(self, history_xyz: Tensor, history_rot: Tensor) -> Tensor:
        """The signed speed at t0 (B,) m/s that the positions and headings of a history (B, 16, 3),
        (B, 16, 3, 3) tell. ModelError: wrong length, or not finite."""
        check_history(history_xyz, history_rot)
        xyz, heading = history_xyz.double(), _unwrapped(_yaw(history_rot.double()))
        matrix, target = self._speed_system(xyz, heading)
        dtype = torch.promote_types(history_xyz.dtype, torch.float32)
        return _solve(matrix, target)[:, -1].to(dtype)

    # --- a trajectory to actions ---

    def to_action(
        self,
        future_xyz: Tensor,
        future_rot: Tensor,
        history_xyz: Tensor,
        history_rot: Tensor,
    ) -> Tensor:
        """Normalised actions (B, n, 2) that drive along a future (B, n, 3) m, (B, n, 3, 3).

        Smoothed: rough accelerations do not come back as they were."""
        return self.action_and_states(future_xyz, future_rot, history_xyz, history_rot)[0]

    def action_and_states(
        self,
        future_xyz: Tensor,
        future_rot: Tensor,
        history_xyz: Tensor,
        history_rot: Tensor,
    ) -> tuple[Tensor, States]:
        """`to_action` with the speeds, accelerations and headings it went by."""
        _check_future(future_xyz, future_rot, len(history_xyz))
        dtype = torch.promote_types(future_xyz.dtype, torch.float32)
        speed_t0 = self.estimate_speed_t0(history_xyz.double(), history_rot.double())
        heading = self._smooth_heading(_yaw(future_rot.double()))
        xyz = torch.nn.functional.pad(future_xyz.double(), (0, 0, 1, 0))  # t0 is the origin
        speed = self._speeds_along(xyz, heading, speed_t0)
        acceleration = self._accelerations(speed)
        curvature = self._curvatures(heading, speed, acceleration)
        action = self.normalise(torch.stack((acceleration, curvature), dim=-1))
        states = States(speed[:, :-1].to(dtype), acceleration.to(dtype), heading[:, :-1].to(dtype))
        return action.to(dtype), states

    def _smooth_heading(self, yaw: Tensor) -> Tensor:
        """Measured yaw (B, n) -> headings (B, n + 1) that begin with 0 at t0."""
        config = self.config
        wrapped = torch.cat((torch.zeros_like(yaw[:, :1]), yaw), dim=1)
        target = _unwrapped(wrapped)[:, 1:]
        n = yaw.shape[1]
        rough = _roughness(n + 1, 3, config.theta_lambda / config.dt**6, yaw.device)
        # th_0 is 0: its column adds nothing to the right-hand side.
        matrix = rough[1:, 1:] + (1 + config.theta_ridge) * _eye(n, yaw.device)
        smooth = _solve(matrix.expand(len(yaw), n, n), target)
        return torch.cat((torch.zeros_like(smooth[:, :1]), smooth), dim=1)

    def _speed_system(self, xyz: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
        """Normal equations (B, m, m), (B, m) of the speeds at m poses: the mean of the velocities
        at both ends of a step must be its displacement over dt."""
        config = self.config
        displacement = (xyz[:, 1:, :2] - xyz[:, :-1, :2]) * (2 / config.dt)
        direction = torch.stack((heading.cos(), heading.sin()), dim=-1)
        rows, poses = heading.shape
        # The data's part is tridiagonal: u_i.u_i = 1 once a step, u_i.u_{i+1} beside it.
        steps_at = torch.full((poses,), 2.0, dtype=torch.float64, device=xyz.device)
        steps_at[0] = steps_at[-1] = 1.0
        beside = (heading[:, 1:] - heading[:, :-1]).cos()
        matrix = torch.diag_embed(steps_at.expand(rows, poses))
        matrix = matrix + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
        target = torch.zeros_like(heading)
        target[:, :-1] += (direction[:, :-1] * displacement).sum(dim=-1)
        target[:, 1:] += (direction[:, 1:] * displacement).sum(dim=-1)
        rough = _roughness(poses, 3, config.v_lambda / config.dt**6, xyz.device)
        return matrix + rough + config.v_ridge * _eye(poses, xyz.device), target

    def _speeds_along(self, xyz: Tensor, heading: Tensor, speed_t0: Tensor) -> Tensor:
        """Speeds (B, n + 1) at poses (B, n + 1, 3) of which the first is known."""
        matrix, target = self._speed_system(xyz, heading)
        start = speed_t0.unsqueeze(1)
        free = target[:, 1:] - matrix[:, 1:, 0] * start
        return torch.cat((start, _solve(matrix[:, 1:, 1:], free)), dim=1)

    def _accelerations(self, speed: Tensor) -> Tensor:
        """Speeds (B, n + 1) -> accelerations (B, n)."""
        config = self.config
        target = speed.diff(dim=1) / config.dt
        rows, n = target.shape
        rough = _roughness(n, 2, config.a_lambda / config.dt**4, speed.device)
        matrix = rough + (1 + config.a_ridge) * _eye(n, speed.device)
        return _solve(matrix.expand(rows, n, n), target)

    def _curvatures(self, heading: Tensor, speed: Tensor, acceleration: Tensor) -> Tensor:
        """Headings and speeds (B, n + 1), accelerations (B, n) -> curvatures (B, n)."""
        config = self.config
        covered = config.dt * speed[:, :-1] + config.dt**2 / 2 * acceleration
        n = covered.shape[1]
        rough = _roughness(n, 2, config.kappa_lambda / config.dt**4, speed.device)
        matrix = torch.diag_embed(covered**2) + rough
        matrix = matrix + config.kappa_ridge * _eye(n, speed.device)
        return _solve(matrix, covered * heading.diff(dim=1))


def _check_future(xyz: Tensor, rot: Tensor, rows: int) -> None:
    wanted = xyz.ndim == 3 and xyz.shape[::2] == (rows, 3) and rot.shape == (*xyz.shape, 3)
    if not wanted or xyz.shape[1] < 4:
        raise ModelError(
            f"a future of {tuple(xyz.shape)} and {tuple(rot.shape)} behind {rows} histories: "
            f"({rows}, n, 3) positions and ({rows}, n, 3, 3) rotations are wanted, n from 4"
        )
    if not (torch.isfinite(xyz).all() and torch.isfinite(rot).all()):
        raise ModelError("the future's positions or rotations are not finite")


def _yaw(rotation: Tensor) -> Tensor:
    return torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])


def _unwrapped(angle: Tensor) -> Tensor:
    """Angles (B, m) rad without jumps of a turn; the first stays."""
    step = angle.diff(dim=1)
    step = torch.atan2(step.sin(), step.cos())
    return torch.cat((angle[:, :1], angle[:, :1] + step.cumsum(dim=1)), dim=1)


def _eye(size: int, device: torch.device) -> Tensor:
    return torch.eye(size, dtype=torch.float64, device=device)


def _roughness(size: int, order: int, weight: float, device: torch.device) -> Tensor:
    """weight * D'D (size, size), D the differences of `order` between neighbours."""
    differences = _eye(size, device).diff(n=order, dim=0)
    # Elementwise, where `differences.T @ differences` would do: see the module's docstring.
    return weight * (differences.unsqueeze(2) * differences.unsqueeze(1)).sum(dim=0)


def _solve(matrix: Tensor, target: Tensor) -> Tensor:
    """x (B, m) of symmetric positive definite matrix (B, m, m) x = target (B, m)."""
    factor = torch.linalg.cholesky(matrix)
    return torch.cholesky_solve(target.unsqueeze(-1), factor).squeeze(-1)
