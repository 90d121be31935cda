"""The model's words out of what it generated: reasoning, meta-action, answer."""

from __future__ import annotations

import re

from alpamayo_ros.vla.vocabulary import token_text

PARTS = ("cot", "meta_action", "answer")
_SPECIAL = re.compile(r"<\|[^|<>]*\|>|<i\d+>")


def extract(text: str, part: str) -> str:
    """What stands between the last <|part_start|> and the first <|part_end|> behind it.

    A missing start means from the beginning; a missing end means "", as the release has it.
    """
    before, end, _ = text.partition(token_text(f"{part}_end"))
    if not end:
        return ""
    return before.rpartition(token_text(f"{part}_start"))[2].strip()


def generated_text(text: str, part: str) -> tuple[str, bool]:
    """The words of `part` in generated text that begins inside it, and whether they were ended.

    What the token limit cut off, or the model never ended, is still worth reading: it goes up to
    the first token that is no text.
    """
    complete = extract(text, part)
    if complete or token_text(f"{part}_end") in text:
        return complete, True
    return _SPECIAL.split(text, maxsplit=1)[0].strip(), False
