"""What guidance compares with: the same reasoning behind a prompt without its navigation text."""

from __future__ import annotations

from dataclasses import replace

import torch

from alpamayo_ros.types import N_WAYPOINTS
from alpamayo_ros.vla import inference
from alpamayo_ros.vla.expert import first_after_start
from alpamayo_ros.vla.fast.cache import Own
from alpamayo_ros.vla.fast.flow import View
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.fast.reason import Reasoned
from alpamayo_ros.vla.generation import ImageFeatures, Prompt
from alpamayo_ros.vla.model import AlpamayoModel


def unguided(
    model: AlpamayoModel,
    language: FastLanguage,
    prompt: Prompt,
    features: ImageFeatures,
    reasoned: Reasoned,
    own: Own | None = None,
) -> View:
    """Pictures and history lie before the route: of a single prompt their keys and values serve
    again, and only what follows the route is read anew.

    It goes into `own`, which lies behind a prompt's stem, or (None) into places made for it. Runs
    under `inference_precision`.
    """
    vocabulary = model.vocabulary
    shared, count = reasoned.own.shared, reasoned.own.count
    tokens = reasoned.sequences[:, reasoned.own.prompt_length :]
    bare, attention = inference.unguided_ids(model, prompt)
    if own is not None:
        before = own.shared
    elif len(bare) == 1 and shared.visible is None:
        kept = int((prompt.input_ids[0] == vocabulary.id_of("route_start")).int().argmax())
        before = replace(shared, length=kept)
    else:
        stripped = replace(prompt, input_ids=bare, attention_mask=attention)
        before = language.read(stripped, features, 0)
    suffix = bare[:, before.length :].repeat_interleave(count // len(bare), 0)
    start = first_after_start(tokens, vocabulary.traj_future_start)
    padded = inference.padded_sequences(model, tokens)
    visible = padded != vocabulary.pad
    padded = torch.cat((suffix, padded), dim=1)
    visible = torch.cat((torch.ones_like(suffix, dtype=torch.bool), visible), dim=1)
    if own is None:
        own = Own(before, count, padded.shape[1] + N_WAYPOINTS, in_place=False)
    own.tail = own.length = suffix.shape[1]
    language.extend(own, padded, 0, visible=visible)
    return View(own, own.prompt_length + start, own.tail + start)
