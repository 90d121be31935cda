"""`fast` from frames or patches to trajectories: what `inference.plan` is to `eager`.

The same weights, seed and options give the same tokens and, within fp32's rounding, trajectories.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.types import N_WAYPOINTS, CameraFrame, PlannerSample
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.expert import first_after_start
from alpamayo_ros.vla.fast import FRAME_CAPACITY
from alpamayo_ros.vla.fast.cache import Own, Shared
from alpamayo_ros.vla.fast.captured import CapturedPlan, Captures, PlanShape
from alpamayo_ros.vla.fast.draft import Draft
from alpamayo_ros.vla.fast.flow import Branch, FastExpert, branch
from alpamayo_ros.vla.fast.frame_cache import FrameCache
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.reason import FastReasoner, Reasoned
from alpamayo_ros.vla.fast.stream import Stream
from alpamayo_ros.vla.fast.vision import FastVision, joined
from alpamayo_ros.vla.generation import ImageFeatures, Prompt
from alpamayo_ros.vla.inference import Planned, PlanningOptions, StageClock
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.vision_input import VisionInput

REASONING = ("before", "after", "off")


@dataclass(frozen=True, slots=True)
class Fork:
    """A prompt as it was read for a trajectory without reasoning: the reasoning goes on from it."""

    prompt: Prompt
    shared: Shared
    options: PlanningOptions
    seed: int | None


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
        self.captures = Captures(self.language, self.expert)
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
                own = self.prefill(prompt, features, options, sequences, frames)
                if reasoning == "after":
                    self.fork = Fork(prompt, own.shared, options, seed)
                captured = self._captured(prompt, own, options)
                decode = captured.decode if captured else None
                own = captured.own if captured else own
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
                noise = noise * options.flow_temperature
                if captured is not None:
                    normalised = captured.denoise(reasoned.offset, reasoned.valid, noise)
                else:
                    branches = self.branches(prompt, features, reasoned, options.guidance_weight)
                    normalised = self.expert.denoise(
                        branches, noise, self._steps(options), options.guidance_weight
                    )
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
        options = fork.options
        rows = len(fork.prompt.input_ids)
        own = Own(fork.shared, rows, options.max_new_tokens + 1, in_place=False)
        decode = None
        with inference.inference_precision(self.model):
            self.language.table.reserve(
                fork.shared.length + int(fork.shared.rope_delta.max()) + own.room + 1
            )
            if rows == 1:
                shape = PlanShape(fork.shared.length, own.room, 1, 0)
                captured = self.captures.take(shape, fork.shared)
                if captured is not None:
                    own, decode = captured.own, captured.decode
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

    def _captured(self, prompt: Prompt, own: Own, options: PlanningOptions) -> CapturedPlan | None:
        """For a single prompt without guidance, of a shape that was captured."""
        if len(prompt.input_ids) > 1 or options.guidance_weight is not None:
            return None
        length = prompt.input_ids.shape[1]
        shape = PlanShape(length, own.room - N_WAYPOINTS, own.count, self._steps(options))
        return self.captures.take(shape, own.shared)

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
        length = prompt.input_ids.shape[1]
        # Two tokens more than asked for: a forced start, and what stands behind it.
        new = options.max_new_tokens + 2 if sequences is None else sequences.shape[1] - length
        room = new + N_WAYPOINTS
        single = options.n_samples == 1
        behind = room if single else 0
        if self.stream is not None and frames is not None:
            shared = self.stream.read(prompt, frames, behind)
        else:
            shared = self.language.read(prompt, features, behind)
        self.language.table.reserve(length + int(shared.rope_delta.max()) + room + 1)
        return Own(shared, len(prompt.input_ids) * options.n_samples, room)

    def branches(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        reasoned: Reasoned,
        guidance_weight: float | None,
    ) -> list[Branch]:
        """What the waypoints see; with guidance, also without the navigation text."""
        version = self.model.config.version
        guided = branch(version, reasoned.own, reasoned.offset, reasoned.valid)
        if guidance_weight is None:
            return [guided]
        return [guided, self.unguided(prompt, features, reasoned)]

    def unguided(self, prompt: Prompt, features: ImageFeatures, reasoned: Reasoned) -> Branch:
        """The same reasoning behind the prompt without its navigation text.

        Pictures and history lie before the route: of a single prompt their keys and values serve
        again, and only what follows the route is read anew.
        """
        model, vocabulary = self.model, self.model.vocabulary
        shared = reasoned.own.shared
        tokens = reasoned.sequences[:, shared.length :]
        bare, attention = inference.unguided_ids(model, prompt)
        if len(bare) == 1 and shared.visible is None:
            kept = int((prompt.input_ids[0] == vocabulary.id_of("route_start")).int().argmax())
            before = Shared(shared.layers, kept, shared.last_hidden, shared.rope_delta, None)
        else:
            stripped = replace(prompt, input_ids=bare, attention_mask=attention)
            before, kept = self.language.read(stripped, features, 0), bare.shape[1]
        suffix = bare[:, kept:].expand(reasoned.own.count, -1) if kept < bare.shape[1] else None
        start = first_after_start(tokens, vocabulary.traj_future_start)
        padded = inference.padded_sequences(model, tokens)
        visible = padded != vocabulary.pad
        extra = 0
        if suffix is not None:
            extra = suffix.shape[1]
            padded = torch.cat((suffix, padded), dim=1)
            visible = torch.cat((torch.ones_like(suffix, dtype=torch.bool), visible), dim=1)
        own = Own(before, reasoned.own.count, padded.shape[1] + N_WAYPOINTS, in_place=False)
        self.language.extend(own, padded, 0, visible=visible)
        return branch(model.config.version, own, bare.shape[1] + start, extra + start, visible)


def without_reasoning(model: AlpamayoModel, prompt: Prompt, n_samples: int) -> Tensor:
    """The prompt, the trajectory's start, and the pad that the reference would have drawn."""
    vocabulary = model.vocabulary
    ids = prompt.input_ids.repeat_interleave(n_samples, 0)
    tail = ids.new_tensor([[vocabulary.traj_future_start, vocabulary.pad]])
    return torch.cat((ids, tail.expand(len(ids), -1)), dim=1)
