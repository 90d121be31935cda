"""Alpamayo R1 and 1.5 as a planner: a sample to a prompt, a model's trajectories to a plan."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alpamayo_ros import candidates, chain_of_causation, decisions, geometry
from alpamayo_ros.backends.base import PlannerBackend
from alpamayo_ros.backends.standstill import standstill
from alpamayo_ros.backends.vla_options import VlaOptions
from alpamayo_ros.candidates import PreviousPlan
from alpamayo_ros.errors import ModelError
from alpamayo_ros.manifest import Manifest
from alpamayo_ros.types import (
    Answer,
    CameraFrame,
    LateReasoning,
    Plan,
    PlannerSample,
    ReasoningSource,
    Stated,
    speeds_along,
)
from alpamayo_ros.vla.libraries import require_transformers

if TYPE_CHECKING:
    from torch import Tensor

    from alpamayo_ros.vla.expert_runtimes import ExpertRuntime
    from alpamayo_ros.vla.fast.runtime import FastRuntime, Fork
    from alpamayo_ros.vla.inference import Planned, PlanningOptions
    from alpamayo_ros.vla.load import Loaded
    from alpamayo_ros.vla.prompt import PromptConfig

LOGGER = logging.getLogger(__name__)
SEED_MODULUS = 2**62
CUT_OFF = " …"  # behind a reasoning that the token limit ended


def bicubic(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """(H, W, 3) to (height, width, 3) with the filter that the model was trained behind."""
    import torch

    from alpamayo_ros.vla.vision_input import resize

    pixels = rgb if rgb.flags.writeable else rgb.copy()  # torch warns of what it may not write to
    picture: NDArray[np.uint8] = resize(torch.from_numpy(pixels)[None], height, width)[0].numpy()
    return picture


def _described(
    action: NDArray[np.float64], rot_in_rig_t0: NDArray[np.float64], speed_t0_mps: float
) -> Stated:
    """What a trajectory does, in words: actions (64, 2), rotations (64, 3, 3)."""
    speeds, headings = speeds_along(action, speed_t0_mps), geometry.yaw_of(rot_in_rig_t0)
    return Stated(decisions.describe(speeds, headings), decisions.decisions_of(speeds, headings))


class VlaBackend(PlannerBackend):
    """The model in PyTorch; its expert optionally on another runtime."""

    resize = staticmethod(bicubic)
    wants_process = True

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.options = VlaOptions.from_manifest(manifest)
        self._table = chain_of_causation.load_table(str(self.options.chain_of_causation or ""))
        self._loaded: Loaded | None = None
        self._expert: ExpertRuntime | None = None
        self._fast: FastRuntime | None = None
        self._previous: PreviousPlan | None = None
        self._unsaid: tuple[int, Fork] | None = None  # t0 of the newest plan, its reasoning to come
        self._said: tuple[int, Tensor, Tensor] | None = None  # its t0, tokens, normalised action

    # ---- loading -----------------------------------------------------------------------------

    def load(self) -> None:
        """Read tokenizer and weights. Raises ModelError naming what is missing and the remedy."""
        require_transformers()
        from alpamayo_ros.vla.expert_runtimes import expert_of
        from alpamayo_ros.vla.load import CheckpointSource, load

        options = self.options
        source = CheckpointSource(
            options.checkpoint, options.tokenizer, options.backbone, options.sha256,
            options.device, options.dtype, options.weights,
        )  # fmt: skip
        self._loaded = load(source)
        if self._loaded.weights.is_quantised:
            self._say_price(self._loaded)
        version = self._loaded.model.config.version
        if version == "r1":
            options.refuse_what_r1_cannot(self.manifest)
        self._expert = expert_of(self.manifest, options, self._loaded.model)
        if options.runtime == "fast":
            from alpamayo_ros.vla.fast.runtime import FastRuntime

            self._fast = FastRuntime(
                self._loaded.model,
                draft_tokens=options.draft_tokens,
                approximate_streaming=options.approximate_streaming,
            )
            self.foresight = self._fast.vision.group

    def _say_price(self, loaded: Loaded) -> None:
        """What fewer bits do to the output, and how far off these weights are."""
        for name, price in loaded.weights.prices.items():
            LOGGER.warning("%s: weights as %s: %s", self.manifest.name, name, price)
        for note in loaded.notes:
            LOGGER.warning("%s: %s", self.manifest.name, note)

    def warm_up(self, cameras: Sequence[str]) -> None:
        """One plan of a grey standstill: allocations and kernels of the first are paid for here.

        On CUDA `fast` captures what plans need, without navigation text and with a common one.
        """
        from alpamayo_ros.vla import generation
        from alpamayo_ros.vla.fast import deviation

        if self._fast is not None:
            self._fast.captures.open = self._fast.captures.wanted
        # Guidance needs a text; what is captured of such a plan serves plans without one, too.
        guided = self.options.guidance_weight is not None and self.manifest.takes_navigation
        self.plan(standstill(cameras, "Turn left in 30m" if guided else None))
        if self._unsaid is not None:
            generation.finish(self.reason())
        if self._fast is not None:
            self._fast.captures.open = False
            if self._fast.stream is not None:
                deviation.measure_streaming(self.plan, self._fast.stream, standstill(cameras))
        self.forget()

    def forget(self) -> None:
        """Earlier plans, their frames and words: the next sample is of another drive."""
        if self._fast is not None:
            self._fast.forget()
        self._previous = self._unsaid = self._said = None

    def close(self) -> None:
        """Give back the model's memory before the next one is loaded."""
        was_loaded = self._loaded is not None
        on_gpu = self._loaded is not None and self._loaded.model.device.type == "cuda"
        if self._fast is not None:
            self._fast.close()
        self._loaded = self._expert = self._fast = None
        self.forget()
        if was_loaded:
            gc.collect()  # modules that name each other live until it runs
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    # ---- planning ----------------------------------------------------------------------------

    def foresee(self, frames: Sequence[CameraFrame]) -> None:
        """Encode them, where `runtime` is `fast`: a plan finds their features."""
        if self._fast is not None:
            self._fast.foresee(frames)

    def plan(self, sample: PlannerSample) -> Plan:
        """Reason, sample `samples` trajectories and choose one."""
        from alpamayo_ros.vla import inference, prepare

        model, tokenizer, fast = self._model.model, self._model.tokenizer, self._fast
        started = time.perf_counter()
        history, options = prepare.history_tensors(model, sample), self._planning_options(sample)
        prompt = prepare.planning_prompt(
            model, tokenizer, self._prompt_config(), sample, *history,
            fast.pictures(sample.images) if fast else None,
        )  # fmt: skip
        prepared_ms = (time.perf_counter() - started) * 1e3
        seed = self._seed(sample)
        if fast is not None:
            self._unsaid = None  # what was read for an older plan's words is let go of
            planned = fast.plan(
                prompt, *history, options, seed, window=sample,
                reasoning=self.options.reasoning, force_start=self.options.force_start,
            )  # fmt: skip
            self._unsaid = (sample.t0_ns, fast.fork) if fast.fork else None
        else:
            planned = inference.plan(
                model, prompt, *history, options, seed=seed, expert=self._expert
            )
        plan = self._plan_of(sample, planned, prepared_ms)
        self._previous = PreviousPlan(
            plan.t0_ns,
            plan.xyz_in_rig_t0,
            sample.odometry_from_rig_t0,
            sample.odometry_frame_id,
        )
        return plan

    def soft_labels(self, sample: PlannerSample) -> dict[str, NDArray[np.float16]]:
        """Of the last plan, which was of `sample`: see `vla.soft_labels`. Costs a second reading of
        the prompt, so that nothing has to be kept of it for planning alone."""
        from alpamayo_ros.vla import prepare
        from alpamayo_ros.vla.soft_labels import soft_labels

        if self._said is None or self._said[0] != sample.t0_ns:
            raise ModelError("soft labels are of the last plan, and that is of another instant")
        model = self._model.model
        history = prepare.history_tensors(model, sample)
        prompt = prepare.planning_prompt(
            model, self._model.tokenizer, self._prompt_config(), sample, *history
        )
        told = soft_labels(model, prompt, *self._said[1:])
        return {
            name: getattr(told, name).cpu().numpy().astype(np.float16)
            for name in ("logits", "features", "attention")
        }

    def _planning_options(self, sample: PlannerSample) -> PlanningOptions:
        from alpamayo_ros.vla.inference import PlanningOptions
        from alpamayo_ros.vla.token_sampling import TokenSampling

        options = self.options
        return PlanningOptions(
            n_samples=options.samples,
            tokens=TokenSampling(options.temperature, options.top_p, options.top_k),
            max_new_tokens=options.max_new_tokens,
            flow_steps=options.flow_steps,
            flow_temperature=options.flow_temperature,
            # Without navigation text there is nothing to be guided by.
            guidance_weight=options.guidance_weight if sample.navigation else None,
        )

    def _plan_of(self, sample: PlannerSample, planned: Planned, prepared_ms: float) -> Plan:
        xyz, rot, action = (
            tensor.double().cpu().numpy()
            for tensor in (planned.xyz_in_rig_t0, planned.rot_in_rig_t0, planned.action)
        )
        if not np.isfinite(xyz).all():
            bad = int((~np.isfinite(xyz)).reshape(len(xyz), -1).any(axis=1).sum())
            raise ModelError(f"{bad} of {len(xyz)} trajectories of the model are not finite")
        chosen = self._choose(sample, xyz)
        said = planned.sequences[chosen, planned.prompt_length :]
        self._said = sample.t0_ns, said, planned.normalised_action[chosen]
        speeds_t0 = planned.speed_t0_mps.double().cpu().numpy()
        if self.options.reasoning == "before":
            new = planned.sequences[:, planned.prompt_length :]
            stated, source = tuple(map(self._stated, new)), ReasoningSource.MODEL
        else:
            stated = tuple(map(_described, action, rot, speeds_t0))
            source = ReasoningSource.TRAJECTORY
        return Plan(
            t0_ns=sample.t0_ns,
            xyz_in_rig_t0=xyz[chosen],
            rot_in_rig_t0=rot[chosen],
            action=action[chosen],
            speed_t0_mps=float(speeds_t0[chosen]),
            candidates_xyz_in_rig_t0=xyz,
            candidates_rot_in_rig_t0=rot,
            reasoning=stated[chosen].reasoning,
            reasoning_source=source,
            decisions=stated[chosen].decisions,
            critical_components=stated[chosen].critical_components,
            model=self.manifest.name,
            stage_ms={"prepare": prepared_ms, **planned.stage_ms},
            candidates_action=action,
            candidates_speed_t0_mps=speeds_t0,
            candidates_stated=stated,
            is_scored=self.options.choice == "scored",
            reasoning_follows=self._unsaid is not None,
            notes=(*self._model.notes, *(self._fast.notes if self._fast is not None else ())),
        )

    def _stated(self, row: Tensor) -> Stated:
        """What one sample says: its generated ids (n,) as text, decisions and their causes."""
        text = self._text(row.tolist())
        decisions, components = self._table.parse(text)
        return Stated(text, decisions, components)

    def _choose(self, sample: PlannerSample, xyz_in_rig_t0: NDArray[np.float64]) -> int:
        return candidates.choose(
            self.options.choice,
            xyz_in_rig_t0,
            sample.t0_ns,
            sample.odometry_from_rig_t0,
            sample.odometry_frame_id,
            self._previous,
        )

    def _text(self, token_ids: list[int]) -> str:
        from alpamayo_ros.vla.reasoning_text import generated_text

        text, ended = generated_text(self._model.tokenizer.decode(token_ids), "cot")
        return text if ended else text + CUT_OFF

    def reason(self) -> Generator[None, None, LateReasoning]:
        """A token a step, to the newest plan, where `reasoning` is `after`."""
        from alpamayo_ros.vla.inference import StageClock

        if self._unsaid is None or self._fast is None:
            raise ModelError(f"model {self.manifest.name} has no plan whose reasoning is to come")
        (t0_ns, fork), self._unsaid = self._unsaid, None
        clock = StageClock(self._model.model.device)
        steps = self._fast.reason_steps(fork)
        while True:
            try:
                with clock.stage("reasoning"):
                    next(steps)
            except StopIteration as end:
                row = end.value[0, fork.prompt.input_ids.shape[1] :]
                break
            yield
        return LateReasoning(t0_ns, self._stated(row), self.manifest.name, clock.stage_ms)

    # ---- questions ---------------------------------------------------------------------------

    def ask(self, sample: PlannerSample, question: str) -> Generator[None, None, Answer]:
        """Answer in steps of a token; Alpamayo 1.5 only."""
        from alpamayo_ros.vla import prepare
        from alpamayo_ros.vla.answering import answer_steps
        from alpamayo_ros.vla.inference import StageClock
        from alpamayo_ros.vla.reasoning_text import generated_text
        from alpamayo_ros.vla.token_sampling import TokenSampling

        model, tokenizer, options = self._model.model, self._model.tokenizer, self.options
        clock = StageClock(model.device)
        prompt = prepare.question_prompt(model, tokenizer, self._prompt_config(), sample, question)
        sampling = TokenSampling(options.temperature, options.top_p, options.top_k)
        new = yield from answer_steps(
            model, prompt, sampling, options.max_answer_tokens, self._seed(sample), clock
        )
        text, _ = generated_text(tokenizer.decode(new), "answer")
        return Answer(sample.t0_ns, text, self.manifest.name, clock.stage_ms)

    # ---- shared ------------------------------------------------------------------------------

    @property
    def _model(self) -> Loaded:
        if self._loaded is None:
            raise ModelError(f"model {self.manifest.name} is not loaded")
        return self._loaded

    def _prompt_config(self) -> PromptConfig:
        from alpamayo_ros.vla.prepare import prompt_config

        return prompt_config(self._model.model)

    def _seed(self, sample: PlannerSample) -> int:
        """A sample's own: whatever was planned or skipped before, it gives the same plan."""
        return (self.options.seed * 1_000_003 + sample.t0_ns) % SEED_MODULUS
