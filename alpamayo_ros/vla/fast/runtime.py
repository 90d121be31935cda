"""`fast` from frames or patches to trajectories: what `inference.plan` is to `eager`.

The same weights, seed and options give the same tokens and, within fp32's rounding, trajectories.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_WAYPOINTS, CameraFrame, PlannerSample
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.fast import FRAME_CAPACITY
from alpamayo_ros.vla.fast.cache import Own, Shared
from alpamayo_ros.vla.fast.captured import CapturedPlan, Captures, PlanShape
from alpamayo_ros.vla.fast.draft import Draft
from alpamayo_ros.vla.fast.flow import Branch, FastExpert, View, branch
from alpamayo_ros.vla.fast.frame_cache import FrameCache
from alpamayo_ros.vla.fast.guidance import unguided
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.reason import FastReasoner, Reasoned
from alpamayo_ros.vla.fast.stem import Division, divide
from alpamayo_ros.vla.fast.stream import Stream
from alpamayo_ros.vla.fast.vision import FastVision, joined
from alpamayo_ros.vla.generation import ImageFeatures, Prompt
from alpamayo_ros.vla.inference import Planned, PlanningOptions, StageClock
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.vision_input import VisionInput

REASONING = ("before", "after", "off")


@dataclass(slots=True)
class Fork:
    """A prompt as it was read for a trajectory without reasoning: the reasoning goes on from it."""

    prompt: Prompt
    division: Division | None
    shared: Shared | None  # None: taken
    options: PlanningOptions
    seed: int | None

    def take(self) -> Shared:
        """What was read, once: a graph's buffers take its place, and it is half a gigabyte."""
        shared, self.shared = self.shared, None
        if shared is None:
            raise ModelError("the reasoning to this plan was begun before")
        return shared


class FastRuntime:
    """One model's fast path. Not for two threads at once: its frame cache is one stream's."""

    def __init__(
        self,
        model: AlpamayoModel,
        group: int | None = None,
        draft_tokens: int = 0,
        approximate_streaming: bool = False,
    ) -> None:
        self.model = model
        self.frames = FrameCache(FRAME_CAPACITY)
        self.vision = FastVision(model, group)
        self.language = FastLanguage(model)
        self.draft = Draft(draft_tokens) if draft_tokens else None
        self.reasoner = FastReasoner(model, self.language, self.draft)
        self.stream = Stream(self.language) if approximate_streaming else None
        self.expert = FastExpert(model)
        if model.device.type == "cuda":
            # Matrices were laid side by side: where they were before is given back.
            torch.cuda.empty_cache()
        self.captures = Captures(self.language, self.expert, model.device.type == "cuda")
        self.fork: Fork | None = None  # of the newest plan with its reasoning still to come

    @property
    def notes(self) -> tuple[str, ...]:
        """For the status: what its options do to plans."""
        return tuple(one.note for one in (self.stream, self.draft) if one is not None)

    def forget(self) -> None:
        """Frames and words of earlier plans; what was captured stays."""
        self.frames.clear()
        if self.draft is not None:
            self.draft.clear()
        if self.stream is not None:
            self.stream.clear()

    def close(self) -> None:
        """Let go of graphs, frames and forks: what they hold goes with the model."""
        self.captures.close()
        self.forget()
        self.fork = None

    def see(
        self, images: NDArray[np.uint8], stamps_ns: NDArray[np.int64], cameras: Sequence[int]
    ) -> ImageFeatures:
        """Features of a window (C, F, H, W, 3) with stamps (C, F); new frames alone are encoded."""
        return joined(self.see_each(images, stamps_ns, cameras))

    def see_each(
        self, images: NDArray[np.uint8], stamps_ns: NDArray[np.int64], cameras: Sequence[int]
    ) -> list[ImageFeatures]:
        """`see`, frame by frame in the window's order."""
        with inference.inference_precision(self.model):
            return self.frames.features(images, stamps_ns, cameras, self._encode)

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        """Encode frames of windows to come, to the end: a device's queue would delay the plan."""
        with inference.inference_precision(self.model):
            self.frames.add(frames, self._encode)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    def _encode(self, frames: NDArray[np.uint8]) -> list[ImageFeatures]:
        return self.vision.encode_frames(torch.from_numpy(frames).to(self.model.device))

    def pictures(self, images: NDArray[np.uint8]) -> VisionInput:
        """The grid of a window (C, F, H, W, 3) for its prompt; no patches, for `see` makes them."""
        cameras, frames, height, width, _ = images.shape
        row = [1, *self.vision.grid_of(height, width)]
        grid = torch.tensor([row] * (cameras * frames), device=self.model.device)
        return VisionInput(torch.empty(0, device=self.model.device), grid)

    def see_patches(self, prompt: Prompt) -> ImageFeatures:
        """Features of a prompt's own patches; nothing is kept."""
        return self.vision.encode_pixel_values(prompt.pixel_values, prompt.image_grid_thw)

    def plan(
        self,
        prompt: Prompt,
        history_xyz_in_rig_t0: Tensor,
        history_rot_in_rig_t0: Tensor,
        options: PlanningOptions,
        seed: int | None = None,
        noise: Tensor | None = None,
        sequences: Tensor | None = None,
        window: PlannerSample | None = None,
        reasoning: str = "before",
        force_start: bool = False,
    ) -> Planned:
        """As `inference.plan`; a `window`'s frames stand in for the prompt's pictures.

        `reasoning` "off" starts the trajectory straight behind the prompt: what the reference gives
        where the reasoning is empty. "after" does too and leaves a `fork`. `force_start`: behind a
        reasoning that reaches the limit the trajectory starts; the reference plans without a start.
        Raises ModelError.
        """
        model = self.model
        inference.check_options(model, prompt, options)
        if reasoning not in REASONING:
            raise ModelError(f"reasoning is {reasoning!r}, wanted {', '.join(REASONING)}")
        clock = StageClock(model.device)
        self.fork = None
        if reasoning != "before" and sequences is None:
            sequences = without_reasoning(model, prompt, options.n_samples)
        with inference.inference_precision(model):
            with clock.stage("vision"):
                frames = None
                if window is None:
                    features = self.see_patches(prompt)
                else:
                    frames = self.see_each(
                        window.images, window.image_stamps_ns, window.camera_indices.tolist()
                    )
                    features = joined(frames)
            with clock.stage("prefill"):
                # Before the prompt is read: the division waits for the device.
                division = self._divided(prompt)
                new = _new_tokens(prompt, options, sequences)
                shared = self.read(prompt, features, options, new, frames)
                if reasoning == "after":
                    self.fork = Fork(prompt, division, shared, options, seed)
                captured = self._captured(
                    division, shared, new, options.n_samples, self._steps(options),
                    options.guidance_weight,
                )  # fmt: skip
                decode = captured.decode if captured else None
                own = captured.own if captured else self._own(shared, options, new)
            with clock.stage("reasoning"):
                if sequences is None:
                    reasoned = self.reasoner.reason(
                        prompt, own, options.tokens, options.max_new_tokens,
                        inference.seeded(seed, model.device), force_start, decode,
                    )  # fmt: skip
                else:
                    reasoned, _ = self.reasoner.follow(own, sequences, decode)
            if noise is None:
                noise = inference.draw_noise(model, own.count, seed)
            with clock.stage("flow"):
                noise, weight = noise * options.flow_temperature, options.guidance_weight
                if captured is not None:
                    views = self.views(prompt, features, reasoned, weight, captured.unguided)
                    normalised = captured.denoise(views, noise, weight)
                else:
                    branches = self.branches(prompt, features, reasoned, weight)
                    normalised = self.expert.denoise(branches, noise, self._steps(options), weight)
            with clock.stage("unicycle"):
                n = options.n_samples
                speed = model.action_space.estimate_speed_t0(
                    history_xyz_in_rig_t0, history_rot_in_rig_t0
                ).repeat_interleave(n, 0)
                z = history_xyz_in_rig_t0[:, -1, 2].repeat_interleave(n, 0)
                xyz, rot = model.action_space.integrate(normalised, speed, z)
            action = model.action_space.denormalise(normalised)
        return Planned(
            xyz, rot, action, normalised, speed,
            inference.padded_sequences(model, reasoned.sequences), prompt.input_ids.shape[1],
            clock.stage_ms,
        )  # fmt: skip

    def reason_steps(self, fork: Fork) -> Generator[None, None, Tensor]:
        """The reasoning of one sample a row, a token a step: sequences (B, L + new).

        The tokens are those that "before" would have drawn for a single sample with the same seed.
        The precision is entered anew in every step: a plan may be made between two.
        """
        options, shared = fork.options, fork.take()
        rows, room = len(fork.prompt.input_ids), options.max_new_tokens + 1
        with inference.inference_precision(self.model):
            self.language.table.reserve(shared.length + int(shared.rope_delta.max()) + room + 1)
            captured = self._captured(fork.division, shared, room, 1, 0, None)
            decode = captured.decode if captured else None
            own = captured.own if captured else Own(shared, rows, room, in_place=False)
            del shared
        steps = self.reasoner.steps(
            fork.prompt, own, options.tokens, options.max_new_tokens,
            inference.seeded(fork.seed, self.model.device), decode=decode,
        )  # fmt: skip
        while True:
            try:
                with inference.inference_precision(self.model):
                    next(steps)
            except StopIteration as end:
                reasoned: Reasoned = end.value
                return inference.padded_sequences(self.model, reasoned.sequences)
            yield

    def _steps(self, options: PlanningOptions) -> int:
        return options.flow_steps or self.model.config.flow_steps

    def _divided(self, prompt: Prompt) -> Division | None:
        """None where the prompt has no stem, or nothing could be captured for it."""
        return divide(prompt, self.model.vocabulary) if self.captures.in_use else None

    def _captured(
        self,
        division: Division | None,
        shared: Shared,
        new: int,
        samples: int,
        steps: int,
        guidance: float | None,
    ) -> CapturedPlan | None:
        """For a single prompt with a stem and `new` tokens, of a shape that was captured."""
        if division is None or shared.visible is not None:
            return None
        room = division.room(self.model.config.version, new)
        shape = PlanShape(division.stem, room, samples, steps, guidance)
        return self.captures.take(shape, shared)

    def prefill(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        options: PlanningOptions,
        sequences: Tensor | None = None,
        frames: Sequence[ImageFeatures] | None = None,
    ) -> Own:
        """Read a prompt once for all samples, with room behind it for tokens and waypoints.

        `frames` are the features one by one, where what was read of them may serve again.
        """
        new = _new_tokens(prompt, options, sequences)
        return self._own(self.read(prompt, features, options, new, frames), options, new)

    def read(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        options: PlanningOptions,
        new: int,
        frames: Sequence[ImageFeatures] | None = None,
    ) -> Shared:
        """Keys and values of a prompt, with room behind them where a single sample may write."""
        length, room = prompt.input_ids.shape[1], new + N_WAYPOINTS
        behind = room if options.n_samples == 1 else 0
        if self.stream is not None and frames is not None:
            shared = self.stream.read(prompt, frames, behind)
        else:
            shared = self.language.read(prompt, features, behind)
        self.language.table.reserve(length + int(shared.rope_delta.max()) + room + 1)
        return shared

    def _own(self, shared: Shared, options: PlanningOptions, new: int) -> Own:
        count = len(shared.last_hidden) * options.n_samples
        return Own(shared, count, new + N_WAYPOINTS)

    def branches(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        reasoned: Reasoned,
        guidance_weight: float | None,
    ) -> list[Branch]:
        """What the waypoints see; with guidance, also without the navigation text."""
        views = self.views(prompt, features, reasoned, guidance_weight)
        return [branch(self.model.config.version, view) for view in views]

    def views(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        reasoned: Reasoned,
        guidance_weight: float | None,
        own: Own | None = None,
    ) -> list[View]:
        """As `branches`; `own` is as `unguided` takes it."""
        if guidance_weight is None:
            return [reasoned.view]
        bare = unguided(self.model, self.language, prompt, features, reasoned, own)
        return [reasoned.view, bare]


def _new_tokens(prompt: Prompt, options: PlanningOptions, sequences: Tensor | None) -> int:
    """How many there may be behind the prompt."""
    if sequences is not None:
        return sequences.shape[1] - prompt.input_ids.shape[1]
    return options.max_new_tokens + 2  # a forced start, and what stands behind it


def without_reasoning(model: AlpamayoModel, prompt: Prompt, n_samples: int) -> Tensor:
    """The prompt, the trajectory's start, and the pad that the reference would have drawn."""
    vocabulary = model.vocabulary
    ids = prompt.input_ids.repeat_interleave(n_samples, 0)
    tail = ids.new_tensor([[vocabulary.traj_future_start, vocabulary.pad]])
    return torch.cat((ids, tail.expand(len(ids), -1)), dim=1)
