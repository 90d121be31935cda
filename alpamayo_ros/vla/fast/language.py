"""The language model over buffers made ahead: a prompt at once, then tokens for every sample."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alpamayo_ros.errors import ModelError
from alpamayo_ros.vla.fast.attention import causal, last_to_all
from alpamayo_ros.vla.fast.cache import Own, Pair, Shared, buffers
from alpamayo_ros.vla.fast.layers import Norm, TextLayer
from alpamayo_ros.vla.fast.rotary import PositionTable, tables
from alpamayo_ros.vla.generation import ImageFeatures, Prompt
from alpamayo_ros.vla.model import AlpamayoModel
from alpamayo_ros.vla.positions import mrope_positions

_LAYOUTS = 16  # prompts that differ in where their images stand


@dataclass(frozen=True, slots=True)
class Layout:
    """What depends on where a prompt's images and pads stand, whatever is in them."""

    image_places: Tensor  # (image tokens,) index into the flattened (B * L)
    cos: Tensor  # (B, L, 1, d)
    sin: Tensor  # (B, L, 1, d), signed
    rope_delta: Tensor  # (B, 1)
    visible: Tensor | None  # (B, L) bool; None: no pads
    positions: Tensor  # (3, B, L), for comparison


class FastLanguage:
    """Reads and extends. Every method runs under `inference_precision`."""

    def __init__(self, model: AlpamayoModel) -> None:
        self._model = model
        self.text = model.vlm.model.language_model
        self.heads = self.text.layers[0].self_attn
        self.layers = [TextLayer(layer) for layer in self.text.layers]
        self._norm = Norm.of(self.text.norm)
        like = self.text.embed_tokens.weight.new_zeros(1)
        self.table = PositionTable(self.text.rotary_emb, like)
        self._layouts: OrderedDict[bytes, Layout] = OrderedDict()

    def layout(self, prompt: Prompt) -> Layout:
        """Kept for the next prompt of the same shape. Raises ModelError, as `mrope_positions`."""
        is_image = prompt.input_ids == self._model.vocabulary.image_pad
        shape = torch.cat((is_image.long(), prompt.attention_mask.long()))
        key = shape.to(torch.uint8).cpu().numpy().tobytes()
        key += prompt.image_grid_thw.cpu().numpy().tobytes() + bytes(str(shape.shape), "ascii")
        if key not in self._layouts:
            merge = self._model.vlm.model.visual.spatial_merge_size
            positions, delta = mrope_positions(
                prompt.input_ids, prompt.attention_mask, prompt.image_grid_thw,
                self._model.vocabulary.image_pad, merge,
            )  # fmt: skip
            visible = prompt.attention_mask.bool()
            like = self.text.embed_tokens.weight
            cos, sin = tables(self.text.rotary_emb, like, positions)
            self._layouts[key] = Layout(
                is_image.flatten().nonzero()[:, 0], cos, sin, delta,
                None if bool(visible.all()) else visible, positions,
            )  # fmt: skip
            if len(self._layouts) > _LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(key)
        return self._layouts[key]

    def read(
        self,
        prompt: Prompt,
        features: ImageFeatures,
        room: int,
        index: Tensor | None = None,
        fill: Callable[[int, Pair], None] | None = None,
    ) -> Shared:
        """Prefill, with `room` places left behind the prompt.

        Causal without a mask where there are no pads. Of the last layer only the last token is
        wanted, and the others' keys and values. With `index` (T,) only those tokens of a single
        prompt are read, its last among them; `features` are of their images, and `fill` puts the
        others' keys and values into a layer's. Raises ModelError where pictures and their places do
        not match.
        """
        ids = prompt.input_ids if index is None else prompt.input_ids[:, index]
        places = int((ids == self._model.vocabulary.image_pad).sum())
        if places != len(features.embeddings):
            raise ModelError(
                f"the prompt has places for {places} image tokens, the pictures make "
                f"{len(features.embeddings)}: wrong number or size of images"
            )
        layout = self.layout(prompt)
        batch, length = prompt.input_ids.shape
        self.table.reserve(length + int(layout.rope_delta.max()) + room + 1)
        mask = None
        if layout.visible is not None:
            mask = (
                layout.visible[:, None, None]
                & torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            )
        cos, sin, image_places = layout.cos, layout.sin, layout.image_places
        if index is not None:
            cos, sin = cos[:, index], sin[:, index]
            image_places = (ids[0] == self._model.vocabulary.image_pad).nonzero()[:, 0]
            mask = (torch.arange(length, device=ids.device) <= index[:, None])[None, None]
        x = self.text.embed_tokens(ids)
        x.view(-1, x.shape[-1])[image_places] = features.embeddings.to(x.dtype)
        kept = None
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            final = i == last and i >= len(features.deepstack)
            q, k, v = layer.project(x, cos, sin, 1 if final else None)
            if kept is None:
                kept = buffers(
                    last + 1, (batch, k.shape[1], length + room, k.shape[3]), v.dtype, v.device
                )
            pair = kept[i][0][:, :, :length], kept[i][1][:, :, :length]
            for all_tokens, read in zip(pair, (k, v)):
                if index is None:
                    all_tokens[:] = read
                else:
                    all_tokens[:, :, index] = read.to(all_tokens.dtype)
            if fill is not None:
                fill(i, pair)
            if final:
                seen = last_to_all(q, *pair, mask[:, :, -1:] if mask is not None else None,
                                   self.heads.scaling)  # fmt: skip
                x = layer.finish(x[:, -1:], seen)
            elif index is not None:
                x = layer.finish(x, last_to_all(q, *pair, mask, self.heads.scaling))
            else:
                x = layer.finish(x, causal(q, k.to(v.dtype), v, mask, self.heads.scaling))
            if i < len(features.deepstack):
                deep = features.deepstack[i].to(x.dtype)
                x.view(-1, x.shape[-1]).index_add_(0, image_places, deep)
        assert kept is not None
        hidden = self._norm(x[:, -1])
        return Shared(kept, length, hidden, layout.rope_delta, layout.visible)

    def extend(
        self,
        own: Own,
        tokens: Tensor,
        start: int,
        rows: Tensor | None = None,
        visible: Tensor | None = None,
        first_position: Tensor | None = None,
    ) -> Tensor:
        """Write tokens (M, T) at places from `start` of `rows`; states (M, T, hidden), normed.

        `visible` (M, start + T) is false where nobody may look; `first_position` (M,) is where the
        first token stands (default: behind the prompt and what stands before it).
        """
        count = tokens.shape[1]
        if first_position is None:
            each = own.count // len(own.shared.rope_delta)
            delta = own.shared.rope_delta.repeat_interleave(each, 0)[:, 0]
            first_position = own.shared.length + start + (delta if rows is None else delta[rows])
        steps = torch.arange(count, device=tokens.device)
        cos, sin = self.table(first_position[:, None] + steps)
        mask = _chunk_mask(start, count, visible, tokens.device)
        if mask is not None:
            mask = mask.expand(len(tokens), 1, -1, -1)
        x = self.text.embed_tokens(tokens)
        for i, layer in enumerate(self.layers):
            q, k, v = layer.project(x, cos, sin)
            end = own.write(i, k, v, start, rows)
            seen = own.attend(i, q, end, self.heads.scaling, rows, mask, own.shared.visible)
            x = layer.finish(x, seen)
        own.length = max(own.length, start + count)
        return self._norm(x)

    def step(
        self,
        own: Own,
        tokens: Tensor,
        place: Tensor,
        turned: tuple[Tensor, Tensor],
        seen: Tensor,
    ) -> Tensor:
        """`extend` by one token (N, 1) at a place (1,) known to the device alone: (N, hidden).

        `turned` are its angles (N, 1, 1, d), `seen` (N or 1, 1, 1, room) the places that it looks
        at, of `additive`.
        """
        x = self.text.embed_tokens(tokens)
        for i, layer in enumerate(self.layers):
            q, k, v = layer.project(x, *turned)
            own.write_at(i, k, v, place)
            x = layer.finish(x, own.attend(i, q, own.room, self.heads.scaling, None, seen))
        return self._norm(x)[:, 0]


def _chunk_mask(
    start: int, count: int, visible: Tensor | None, device: torch.device
) -> Tensor | None:
    """(M or 1, 1, count, start + count), true where seen; None where everything is."""
    if count == 1 and visible is None:
        return None
    mask = torch.ones(count, start + count, dtype=torch.bool, device=device).tril(start)
    return mask[None, None] if visible is None else mask & visible[:, None, None]
