"""Reasoning for n samples behind one prompt: the tokens and the stop of `generation.reason`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.expert import first_after_start
from alpamayo_ros.vla.fast.cache import Own
from alpamayo_ros.vla.fast.decode import FastHead, attempt, certain, lots
from alpamayo_ros.vla.fast.draft import Draft
from alpamayo_ros.vla.fast.flow import View
from alpamayo_ros.vla.fast.language import FastLanguage
from alpamayo_ros.vla.generation import Prompt, finish
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.token_sampling import TokenSampling

Decode = Callable[[Tensor, int], Tensor]  # tokens (N,), their place -> states (N, hidden)


@dataclass(frozen=True, slots=True)
class Reasoned:
    """Sequences, and what the waypoints see of them."""

    sequences: Tensor  # (N, L + new)
    own: Own
    offset: Tensor  # (N,) index behind each sample's trajectory start; L + new where there is none

    @property
    def view(self) -> View:
        """What the waypoints see: all but the last token, which is in nobody's cache."""
        places = self.sequences.shape[1] - self.own.shared.length
        valid = (self.offset - self.own.shared.length).clamp(max=places - 1)
        return View(self.own, self.offset, valid)


class FastReasoner:
    """Draws or follows tokens. Every method runs under `inference_precision`.

    One look at the device a token remains: who is done, and whether the tokens are certain; where
    they are not, they are picked again and looked at again. A `draft` makes several tokens of one
    look; it serves a prompt's single sample.
    """

    def __init__(
        self, model: AlpamayoModel, language: FastLanguage, draft: Draft | None = None
    ) -> None:
        self._vocabulary = model.vocabulary
        self._language = language
        self.draft = draft
        self.head = FastHead(model)

    def reason(
        self,
        prompt: Prompt,
        own: Own,
        sampling: TokenSampling,
        max_new_tokens: int,
        generator: torch.Generator | None = None,
        force_start: bool = False,
        decode: Decode | None = None,
    ) -> Reasoned:
        """Sample as `generation.reason` does: the same tokens from the same generator.

        `force_start` begins the trajectory of a sample whose reasoning reaches `max_new_tokens`.
        """
        return finish(
            self.steps(prompt, own, sampling, max_new_tokens, generator, force_start, decode)
        )

    def steps(
        self,
        prompt: Prompt,
        own: Own,
        sampling: TokenSampling,
        max_new_tokens: int,
        generator: torch.Generator | None = None,
        force_start: bool = False,
        decode: Decode | None = None,
    ) -> Generator[None, None, Reasoned]:
        """`reason`, handing back after every token. Each step runs under `inference_precision`.

        `decode` takes the place of `FastLanguage.extend` for every sample at once.
        """
        if max_new_tokens < 1:
            raise ModelError(f"max_new_tokens is {max_new_tokens}, wanted 1 or more")
        if self.draft is not None and own.count == 1:
            drafted = self._drafted(
                self.draft, prompt, own, sampling, max_new_tokens, generator, decode
            )
            said = yield from drafted
            return self._joined(prompt, own, said, force_start)
        greedy = sampling.greedy
        # What is dropped can only be taken up again where the lots can be drawn again.
        dropping = len(prompt.input_ids) == 1 and (greedy or generator is not None)
        dropping = dropping and decode is None
        state = None if greedy or generator is None else generator.get_state()
        new = yield from self._run(own, sampling, max_new_tokens, generator, dropping, decode)
        if new is None:
            if state is not None and generator is not None:
                generator.set_state(state)
            own.length = own.tail
            new = yield from self._run(own, sampling, max_new_tokens, generator, False, None)
        assert new is not None
        return self._joined(prompt, own, new, force_start)

    def _joined(self, prompt: Prompt, own: Own, new: Tensor, force_start: bool) -> Reasoned:
        """Prompt and new tokens (N, new)."""
        if force_start:
            new = self._forced(own, new)
        each = own.count // len(prompt.input_ids)
        sequences = torch.cat((prompt.input_ids.repeat_interleave(each, 0), new), dim=1)
        return self._reasoned(own, sequences)

    def follow(
        self, own: Own, sequences: Tensor, decode: Decode | None = None
    ) -> tuple[Reasoned, Tensor]:
        """As `reason`, with (N, L + new) given, in one call or by `decode` one by one.

        Also the states (N, new, hidden) that each new token would have been drawn from.
        """
        shared = own.shared
        each = own.count // len(shared.last_hidden)
        hidden = shared.last_hidden.repeat_interleave(each, 0)[:, None]
        new = sequences[:, own.prompt_length : -1]
        if decode is not None:
            states = [decode(new[:, i], own.tail + i)[:, None].clone() for i in range(new.shape[1])]
            hidden = torch.cat((hidden, *states), dim=1)
        elif new.shape[1]:
            hidden = torch.cat((hidden, self._language.extend(own, new, own.tail)), dim=1)
        return self._reasoned(own, sequences), hidden

    def _reasoned(self, own: Own, sequences: Tensor) -> Reasoned:
        offset = first_after_start(sequences, self._vocabulary.traj_future_start)
        return Reasoned(sequences, own, offset)

    def _drafted(
        self,
        draft: Draft,
        prompt: Prompt,
        own: Own,
        sampling: TokenSampling,
        max_new_tokens: int,
        generator: torch.Generator | None,
        decode: Decode | None,
    ) -> Generator[None, None, Tensor]:
        """New tokens (1, new) of a single sample: those of `_run`, several from one pass.

        Each token is drawn with the lot that it would have had alone, from the states behind the
        tokens before it; a guess is kept where it is what was drawn. Only the rounding of a pass
        over several tokens is another.
        """
        vocabulary, device = self._vocabulary, own.shared.last_hidden.device
        text = prompt.input_ids[0].tolist()
        context = [token for token in text if token != vocabulary.image_pad]
        said: list[int] = []
        guess: list[int] = []
        states = own.shared.last_hidden
        left = torch.empty(0, self.head.vocabulary_size, device=device)  # lots not yet used
        while True:
            if not sampling.greedy and len(left) < len(states):
                more = [
                    lots(1, self.head.vocabulary_size, device, generator)
                    for _ in range(len(states) - len(left))
                ]
                left = torch.cat((left, *more))
            drawn = None if sampling.greedy else left[: len(states)]
            tokens = self._known(self.head(states), sampling, drawn)
            kept = 0
            while (
                kept < len(guess)
                and tokens[kept] == guess[kept]
                and not self._ends(tokens[kept], len(said) + kept + 1, max_new_tokens)
            ):
                kept += 1
            draft.count(len(guess), kept)
            said += tokens[: kept + 1]
            left = left[kept + 1 :]
            if said[-1] == vocabulary.im_end or len(said) >= max_new_tokens:
                break
            if said[-1] == vocabulary.traj_future_start:
                # As in `_run`: the start goes into the cache, a pad stands for the token behind it.
                self._pass(own, said[-1:], own.tail + len(said) - 1, decode)
                said.append(vocabulary.pad)
                break
            guess = draft.guess([*context, *said], max_new_tokens - len(said) - 1)
            states = self._pass(own, [said[-1], *guess], own.tail + len(said) - 1, decode)
            yield
        draft.remember(context, said)
        own.length = own.tail + len(said)
        return states.new_tensor([said], dtype=torch.long)

    def _known(self, logits: Tensor, sampling: TokenSampling, drawn: Tensor | None) -> list[int]:
        """Tokens of logits (T, V), on the host."""
        tokens, unsure = attempt(self.head, logits, sampling, drawn)
        *found, again = torch.cat((tokens, unsure)).tolist()
        if again:
            found = certain(self.head, logits, sampling, drawn).tolist()
        return found

    def _pass(self, own: Own, tokens: list[int], start: int, decode: Decode | None) -> Tensor:
        """States (T, hidden) of one sample's tokens; `decode` takes a single one."""
        chunk = torch.tensor([tokens], device=own.shared.last_hidden.device)
        if decode is not None and len(tokens) == 1:
            return decode(chunk[0], start)
        return self._language.extend(own, chunk, start)[0]

    def _ends(self, token: int, count: int, max_new_tokens: int) -> bool:
        """Whether nothing is drawn behind the `count`-th new token."""
        ends = token in (self._vocabulary.im_end, self._vocabulary.traj_future_start)
        return ends or count >= max_new_tokens

    def _run(
        self,
        own: Own,
        sampling: TokenSampling,
        max_new_tokens: int,
        generator: torch.Generator | None,
        dropping: bool,
        decode: Decode | None,
    ) -> Generator[None, None, Tensor | None]:
        """New tokens (N, new); None where a sample ended its turn and another had been dropped.

        The reference carries a started sample on, and where another never starts it is that one's
        further tokens that decide when to stop. Rare, so that it is run again without dropping.
        """
        vocabulary, shared, count = self._vocabulary, own.shared, own.count
        each = count // len(shared.last_hidden)
        logits = self.head(shared.last_hidden).repeat_interleave(each, 0)
        device = logits.device
        running = torch.ones(count, dtype=torch.bool, device=device)
        started = torch.zeros_like(running)
        rows: Tensor | None = None
        waiting = list(range(count))  # the same on the host
        columns: list[Tensor] = []
        while True:
            drawn = None
            if not sampling.greedy:
                # Dropped samples' lots are drawn too: the others' must be those of the reference.
                drawn = lots(count, self.head.vocabulary_size, device, generator)
                drawn = drawn if rows is None else drawn[rows]
            picked, unsure = attempt(self.head, logits, sampling, drawn)
            after = self._after(picked, rows, running, started)
            looked = torch.cat((unsure, *after[1:])).tolist()
            if looked[0]:
                picked = certain(self.head, logits, sampling, drawn)
                after = self._after(picked, rows, running, started)
                looked = torch.cat((unsure, *after[1:])).tolist()
            token, running, started = after
            runs, has_started = looked[1 : 1 + count], looked[1 + count :]
            columns.append(token)
            if not any(runs) or len(columns) >= max_new_tokens:
                return torch.stack(columns, dim=1)
            on = (run or start for run, start in zip(runs, has_started))
            if dropping and any(has_started) and not all(on):
                return None
            fed = token if rows is None else token[rows]
            place = own.tail + len(columns) - 1
            if decode is not None:
                hidden = decode(fed, place)
            else:
                hidden = self._language.extend(own, fed[:, None], place, rows)[:, 0]
            if all(has_started):
                # The reference draws one token more to bring the start into the cache; it is there.
                columns.append(torch.full_like(token, vocabulary.pad))
                return torch.stack(columns, dim=1)
            kept = [place for place, row in enumerate(waiting) if not has_started[row]]
            if dropping and len(kept) < len(waiting):
                waiting = [waiting[place] for place in kept]
                hidden = hidden[torch.tensor(kept, device=device)]
                rows = torch.tensor(waiting, device=device)
            logits = self.head(hidden)
            yield

    def _after(
        self, picked: Tensor, rows: Tensor | None, running: Tensor, started: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the tokens picked for `rows` (None: all): every sample's token (N,), who goes on and
        who has started its trajectory, (N,) bool."""
        vocabulary = self._vocabulary
        token = picked
        if rows is not None:
            pads = torch.full_like(running, vocabulary.pad, dtype=torch.long)
            token = pads.index_copy_(0, rows, picked)
        token = torch.where(running, token, vocabulary.pad)
        running = running & (token != vocabulary.im_end)
        return token, running, started | (token == vocabulary.traj_future_start)

    def _forced(self, own: Own, new: Tensor) -> Tensor:
        """Behind a reasoning without it, the trajectory's start; each where its own ended."""
        start, pad = self._vocabulary.traj_future_start, self._vocabulary.pad
        without = ~(new == start).any(dim=1)
        if not bool(without.any()):
            return new
        # The last token drawn is in nobody's cache yet, and may be a sample's own start.
        begin = torch.where(without, start, pad)
        pair = torch.stack((new[:, -1], begin), dim=1)
        self._language.extend(own, pair, own.tail + new.shape[1] - 1)
        padding = torch.full_like(begin, pad)
        return torch.cat((new, begin[:, None], padding[:, None]), dim=1)
