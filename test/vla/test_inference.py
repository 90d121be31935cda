"""Batches, pads, samples and options: each row plans as it would alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from vla import small_model as small

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla import generation, inference
from alpamayo_ros.vla.golden.steering import steered
from alpamayo_ros.vla.inference import PlanningOptions
from alpamayo_ros.vla.token_sampling import TokenSampling

GREEDY = TokenSampling(top_k=1)
OPTIONS = PlanningOptions(tokens=GREEDY, max_new_tokens=5, flow_steps=4)
# fp32 sums in another order, carried through four steps of the flow and 6.4 s: see golden.result.
ATOL_M = 2e-3


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 64, 2, generator=torch.Generator().manual_seed(seed))


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ATOL_M)


def test_rows_of_different_length_plan_as_alone() -> None:
    """1.5, left-padded: rows with 1, 4 and 2 pictures together and one by one."""
    images = [1, 4, 2]
    rows = [small.row("1.5", count, seed=count) for count in images]
    xyz, rot = small.history(3)
    x0 = noise(3)
    together = inference.plan(
        small.model("1.5"), small.prompt("1.5", rows, images), xyz, rot, OPTIONS, noise=x0
    )
    for b, count in enumerate(images):
        alone = inference.plan(
            small.model("1.5"), small.prompt("1.5", [rows[b]], [count]), xyz[:1], rot[:1], OPTIONS,
            noise=x0[b : b + 1],
        )  # fmt: skip
        new = alone.sequences[0, alone.prompt_length :]
        assert together.sequences[b, together.prompt_length :].tolist() == new.tolist()
        close(together.xyz_in_rig_t0[b], alone.xyz_in_rig_t0[0])


def test_r1_leaves_pads_in_sight() -> None:
    """R1's release does not hide the pads of a batch from its expert; neither do we."""
    rows, images = [small.row("r1", 1), small.row("r1", 3)], [1, 3]
    for version, hides in (("r1", False), ("1.5", True)):
        model, prompt = small.model(version), small.prompt(version, rows, images)
        with inference.inference_precision(model):
            features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
            prefix = generation.prefill(model, prompt, features)
            offset = torch.full((2,), prefix.length)
            context = inference.expert_context(model, prefix, offset, prefix.length)
        pads = int((prompt.attention_mask[0] == 0).sum())
        assert pads > 0
        assert bool((context.mask[0, 0, :, :pads] < 0).all()) is hides
        assert bool((context.mask[1] == 0).all())


@pytest.mark.parametrize("version", ["r1", "1.5"])
def test_samples_share_a_prefill_and_equal_single_runs(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """32 samples see and read the prompt once, and each is what it would be by itself."""
    model, n = small.model(version), 32
    prompt = small.prompt(version, [small.row(version, 2)], [2])
    calls = {"see": 0, "prefill": 0}
    for name in calls:
        original = getattr(generation, name)

        def counted(*args: object, name: str = name, original: object = original) -> object:
            calls[name] += 1
            return original(*args)  # type: ignore[operator]

        monkeypatch.setattr(generation, name, counted)
    x0 = noise(n)
    xyz, rot = small.history()
    many = inference.plan(model, prompt, xyz, rot, replace(OPTIONS, n_samples=n), noise=x0)
    assert calls == {"see": 1, "prefill": 1}
    assert many.xyz_in_rig_t0.shape == (n, 64, 3)
    assert many.rot_in_rig_t0.shape == (n, 64, 3, 3)
    for s in (0, 13, 31):
        one = inference.plan(model, prompt, xyz, rot, OPTIONS, noise=x0[s : s + 1])
        assert many.sequences[s].tolist() == one.sequences[0].tolist()
        close(many.xyz_in_rig_t0[s], one.xyz_in_rig_t0[0])
    assert (many.xyz_in_rig_t0[0] - many.xyz_in_rig_t0[1]).abs().max() > 0.1


def test_samples_that_end_at_different_tokens() -> None:
    """Each sample's waypoints follow its own start token, and the rest is hidden from it."""
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    start, end = model.vocabulary.traj_future_start, model.vocabulary.im_end
    new = torch.tensor(
        [[5, start, 7, 8, 9], [5, 6, 7, start, 9], [5, 6, 7, 8, 9], [5, end, 1, 1, 1]]
    )
    ids = torch.cat((prompt.input_ids.expand(4, -1), new), dim=1)
    x0 = noise(1).expand(4, -1, -1)
    xyz, rot = small.history()
    options = replace(OPTIONS, n_samples=4)
    together = inference.plan(model, prompt, xyz, rot, options, noise=x0, sequences=ids)
    for s, kept in enumerate((3, 5, 5, 5)):
        # Alone, with nothing behind the token that brings its start into the cache.
        alone = inference.plan(
            model, prompt, xyz, rot, OPTIONS, noise=x0[:1],
            sequences=ids[s : s + 1, : prompt.input_ids.shape[1] + kept],
        )  # fmt: skip
        close(together.xyz_in_rig_t0[s], alone.xyz_in_rig_t0[0])
    behind = together.sequences[0, together.prompt_length + 2 :]
    assert (behind == model.vocabulary.pad).all()


def test_the_stop_rule() -> None:
    """A row is steered to start its trajectory: one token more is drawn, and nothing behind."""
    model = small.model("r1")
    prompt = small.prompt("r1", [small.row("r1", 1)], [1])
    row = model.vocabulary.traj_future_start
    with inference.inference_precision(model):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        hidden = generation.prefill(model, prompt, features).last_hidden
    with steered(model, row, hidden[0] * 10.0):
        planned = inference.plan(
            model, prompt, *small.history(), replace(OPTIONS, max_new_tokens=50), seed=1
        )
    new = planned.sequences[0, planned.prompt_length :].tolist()
    assert new == [row, model.vocabulary.pad]


def test_seeds() -> None:
    """The same seed gives the same plan, another seed another; greedy tokens need none."""
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    options = replace(OPTIONS, tokens=TokenSampling(), n_samples=3)
    xyz, rot = small.history()
    first, again, other = (
        inference.plan(model, prompt, xyz, rot, options, seed=seed) for seed in (7, 7, 8)
    )
    assert torch.equal(first.xyz_in_rig_t0, again.xyz_in_rig_t0)
    assert torch.equal(first.sequences, again.sequences)
    assert not torch.equal(first.xyz_in_rig_t0, other.xyz_in_rig_t0)


def test_guidance() -> None:
    """Weight 1 is the condition alone, weight 0 the prompt without its route; 2 goes beyond."""
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 2, route=6)], [2])
    bare_ids, bare_mask = inference.unguided_ids(model, prompt)
    assert bare_ids.shape[1] == prompt.input_ids.shape[1] - 8
    xyz, rot = small.history()
    new = torch.tensor([[5, 6, model.vocabulary.traj_future_start, 7]])

    def plan(weight: float | None, bare: bool = False) -> torch.Tensor:
        chosen = replace(prompt, input_ids=bare_ids, attention_mask=bare_mask) if bare else prompt
        return inference.plan(
            model, chosen, xyz, rot, replace(OPTIONS, guidance_weight=weight), noise=noise(1),
            sequences=torch.cat((chosen.input_ids, new), dim=1),
        ).xyz_in_rig_t0  # fmt: skip

    close(plan(1.0), plan(None))
    close(plan(0.0), plan(None, bare=True))
    apart = (plan(2.0) - plan(1.0)).abs().max()
    assert apart > 10 * ATOL_M


def test_options_that_a_version_lacks() -> None:
    """Guidance, noise temperature and routes are 1.5's; guidance needs a route."""
    r1 = small.prompt("r1", [small.row("r1", 1)], [1])
    v15 = small.prompt("1.5", [small.row("1.5", 1)], [1])
    xyz, rot = small.history()
    for version, prompt, options, said in (
        ("r1", r1, replace(OPTIONS, guidance_weight=1.5), "needs Alpamayo 1.5"),
        ("r1", r1, replace(OPTIONS, flow_temperature=0.6), "needs Alpamayo 1.5"),
        ("1.5", v15, replace(OPTIONS, guidance_weight=1.5), "no navigation text"),
    ):
        with pytest.raises(ModelError, match=said):
            inference.plan(small.model(version), prompt, xyz, rot, options)
    for field, value in (("n_samples", 0), ("flow_steps", 0)):
        with pytest.raises(ModelError, match=f"{field} is 0"):
            replace(OPTIONS, **{field: value})


def test_wrong_number_of_pictures() -> None:
    """Places for two pictures, three given: both numbers are named."""
    prompt = small.prompt("1.5", [small.row("1.5", 2)], [3])
    with pytest.raises(ModelError, match="12 image tokens.*18"):
        inference.plan(small.model("1.5"), prompt, *small.history(), OPTIONS)


def test_history_of_the_wrong_length() -> None:
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    xyz, rot = small.history()
    with pytest.raises(ModelError, match=r"\(1, 15, 3\), wanted \(B, 16, 3\)"):
        inference.plan(small.model("1.5"), prompt, xyz[:, 1:], rot[:, 1:], OPTIONS)


def test_bfloat16() -> None:
    """Weights in bfloat16 plan under autocast: finite, and with the rounded constants."""
    from alpamayo_ros.vla.initialise import random_model
    from alpamayo_ros.vla.model import constants

    model = random_model("tiny", "r1", torch.device("cpu"), torch.bfloat16, seed=3)
    rounded = dict(constants(model))["action_in_proj.sinus.0.freqs"][0].tolist()
    assert rounded == [1, 1.671875, 2.78125, 4.65625, 7.75, 12.9375, 21.5, 36, 60, 100]
    prompt = small.prompt("r1", [small.row("r1", 2)], [2])
    planned = inference.plan(model, prompt, *small.history(), OPTIONS, seed=1)
    assert planned.xyz_in_rig_t0.dtype == torch.float32
    assert torch.isfinite(planned.xyz_in_rig_t0).all()


def test_the_small_size_plans() -> None:
    """156 M parameters: the shapes between tiny and full fit together as well."""
    from alpamayo_ros.vla.initialise import random_model

    model = random_model("small", "1.5", torch.device("cpu"), torch.float32)
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    options = replace(OPTIONS, max_new_tokens=2, flow_steps=2)
    planned = inference.plan(model, prompt, *small.history(), options, seed=1)
    assert torch.isfinite(planned.xyz_in_rig_t0).all()


def test_what_ends_a_turn() -> None:
    """<|im_end|> ends a sample, pads follow it, and nothing goes on when all have ended.

    The row of <|im_end|> is steered to be the likeliest token behind the prompt.
    """
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    row = model.vocabulary.im_end
    with inference.inference_precision(model):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        hidden = generation.prefill(model, prompt, features).last_hidden
        with steered(model, row, hidden[0] * 10.0):
            reasoned = generation.reason(
                model, prompt, generation.prefill(model, prompt, features), 2, GREEDY, 6
            )
            steps = generation.answer_steps(
                model, prompt, generation.prefill(model, prompt, features), 2, GREEDY, 6
            )
            answered = generation.finish(steps)
    length = prompt.input_ids.shape[1]
    assert reasoned.sequences[:, length:].tolist() == [[row], [row]]
    assert answered.sequences[:, length:].tolist() == [[row], [row]]


def test_an_answer_s_limit() -> None:
    """As many tokens as asked for, one a step, where nothing ends it; masked tokens may come."""
    model = small.model("1.5")
    prompt = small.prompt("1.5", [small.row("1.5", 1)], [1])
    with inference.inference_precision(model):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        prefix = generation.prefill(model, prompt, features)
        count = 0
        for _ in generation.answer_steps(model, prompt, prefix, 1, GREEDY, 6):
            count += 1
    assert count == 5


def test_pads_behind_an_end_stay_in_sight_of_both_experts() -> None:
    """1.5 hides the prompt's pads alone; guided and unguided contexts treat the others alike."""
    model = small.model("1.5")
    vocabulary = model.vocabulary
    prompt = small.prompt("1.5", [small.row("1.5", 1, route=4)], [1])
    new = torch.tensor([[5, vocabulary.im_end, vocabulary.pad, vocabulary.pad]])
    with inference.inference_precision(model):
        features = generation.see(model, prompt.pixel_values, prompt.image_grid_thw)
        prefix = generation.prefill(model, prompt, features)
        sequences = torch.cat((prompt.input_ids, new), dim=1)
        generated = generation.follow(model, prompt, prefix, 1, sequences)
        guided = inference.after_reasoning(model, generated)
        unguided = inference.unguided_context(model, prompt, features, generated, 1)
    assert bool((guided.mask == 0).all())
    assert bool((unguided.mask == 0).all())
