"""The next token without the work whose result is thrown away.

Trajectory rows of lm_head are never multiplied; the nucleus is found among the likeliest tokens
instead of by sorting all; samples that have started their trajectory are not carried on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling, filter_logits

CANDIDATES = 1024
SMALL = 4096  # tokens: all of so few are sorted sooner than it is settled that a part will do
# The reference compares an fp32 cumulative sum with 1 - p. Where a token's mass lies nearer to the
# limit than that sum is exact, the reference's own way decides.
MARGIN = 1e-5


@dataclass(frozen=True, slots=True)
class Nucleus:
    """Tokens that may be drawn, one row a sample."""

    probabilities: Tensor  # (N, K) fp32, zero where filtered out
    tokens: Tensor  # (N, K) index into the logits' columns


class FastHead:
    """lm_head without its trajectory rows; columns are mapped back to token ids."""

    def __init__(self, model: AlpamayoModel) -> None:
        self._head = model.vlm.lm_head
        self._start = model.vocabulary.traj_token_start
        self._end = model.vocabulary.traj_token_end
        self.vocabulary_size = model.config.vocab_size

    def __call__(self, hidden: Tensor) -> Tensor:
        """fp32 logits (N, V - trajectory tokens) of states (N, hidden)."""
        head = self._head
        if type(head) is not nn.Linear:  # a quantised one has no rows to choose
            logits = head(hidden)
            return torch.cat((logits[:, : self._start], logits[:, self._end :]), dim=1).float()
        # Two views of one weight: nothing is copied.
        parts = (head.weight[: self._start], head.weight[self._end :])
        return torch.cat([functional.linear(hidden, part) for part in parts], dim=1).float()

    def token_ids(self, columns: Tensor) -> Tensor:
        """Token ids of columns of the logits."""
        return columns + (columns >= self._start) * (self._end - self._start)

    def all_logits(self, hidden: Tensor) -> Tensor:
        """(N, V), trajectory tokens at -inf: as `generation.planning_logits`, for comparison."""
        short = self(hidden)
        hole = short.new_full((len(short), self._end - self._start), float("-inf"))
        return torch.cat((short[:, : self._start], hole, short[:, self._start :]), dim=1)


def nucleus(logits: Tensor, sampling: TokenSampling) -> tuple[Nucleus, Tensor]:
    """What `filter_logits` leaves of logits (N, V), with its probabilities; and whether (1,) bool
    it is not certain, so that `filtered` has to say. Nothing waits for the device."""
    if sampling.top_k is None and sampling.top_p < 1.0 and logits.shape[1] > SMALL:
        return _among_likeliest(logits / sampling.temperature, sampling.top_p)
    return filtered(logits, sampling), _no(logits)


def filtered(logits: Tensor, sampling: TokenSampling) -> Nucleus:
    """`nucleus` in the reference's own way, which sorts all."""
    probabilities = filter_logits(logits, sampling).softmax(dim=-1)
    columns = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    return Nucleus(probabilities, columns)


def _no(like: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.bool, device=like.device)


def _among_likeliest(logits: Tensor, top_p: float) -> tuple[Nucleus, Tensor]:
    """Not certain where the likeliest do not make up the mass, or the limit falls too close to a
    token's to tell without the reference's own sum (or between equals, whose order is its sort's).
    """
    count = min(CANDIDATES, logits.shape[1])
    top, columns = logits.topk(count, dim=-1)
    mass = (top - logits.logsumexp(dim=-1, keepdim=True)).exp().double()
    above = mass.cumsum(dim=-1) - mass  # of what is likelier than each
    keep = above < top_p
    kept = keep.sum(dim=-1, keepdim=True)
    undecided = ((above - top_p).abs() < MARGIN).any()
    if count < logits.shape[1]:
        undecided = undecided | (mass.sum(dim=-1) < top_p + MARGIN).any()
    following = kept.clamp(max=count - 1)
    last = (kept - 1).clamp(min=0)  # of NaN none is kept, and an index is an index
    equals = (top.gather(1, last) == top.gather(1, following)) & (kept < count)
    probabilities = top.masked_fill(~keep, float("-inf")).softmax(dim=-1)
    return Nucleus(probabilities, columns), (undecided | equals.any())[None]


def lots(
    count: int, vocabulary_size: int, device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """(count, V) exponential numbers, the same that torch.multinomial draws for V probabilities."""
    return torch.empty(count, vocabulary_size, device=device).exponential_(1, generator=generator)


def attempt(
    head: FastHead, logits: Tensor, sampling: TokenSampling, drawn: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Token ids (N,) from logits of `head`; `drawn` (N, V) are their `lots`, None where greedy.

    Also whether (1,) bool they are not certain, so that `certain` has to pick them. Nothing waits
    for the device: its reader takes this with whatever else there is to know.
    """
    if drawn is None:
        return head.token_ids(logits.argmax(dim=-1)), _no(logits)
    found, unsure = nucleus(logits, sampling)
    return _picked(head, found, drawn), unsure


def certain(
    head: FastHead, logits: Tensor, sampling: TokenSampling, drawn: Tensor | None
) -> Tensor:
    """Token ids (N,) of the same lots where `attempt` was not certain."""
    assert drawn is not None  # the likeliest token always is
    return _picked(head, filtered(logits, sampling), drawn)


def _picked(head: FastHead, found: Nucleus, drawn: Tensor) -> Tensor:
    ids = head.token_ids(found.tokens)
    best = (found.probabilities / drawn.gather(1, ids)).argmax(dim=-1, keepdim=True)
    return ids.gather(1, best)[:, 0]
