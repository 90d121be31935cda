"""Text of others that becomes part of a model's prompt: navigation and questions."""

from __future__ import annotations

import re
import unicodedata

from alpamayo_ros.errors import UserError

# Characters; the prompt's own limits, so that what is taken in can be planned with.
MAX_NAVIGATION_LENGTH = 256
MAX_QUESTION_LENGTH = 1000

_SPACES = re.compile(r"[ \t\r\n\u00a0\u2028\u2029]+")
# What a tokenizer would take for a token of its own: <|…|>, <i123>, <think>, </tool_call>.
_MARKUP = re.compile(r"<\||\|>|</?[\w.-]+/?>")
_SHOWN = 40  # characters of a refused text


class TextRefused(UserError):
    """A text that is kept from the model; the message says why and what would do."""


def clean(text: str, what: str, max_length: int) -> str:
    """`text` on one line, without spaces at its ends; "" where there is nothing in it.

    Raises TextRefused where it is longer than `max_length` characters, or has control markup or
    control characters: it could end the prompt's own section and begin another.
    """
    cleaned = unicodedata.normalize("NFC", _SPACES.sub(" ", text)).strip(" ")
    if len(cleaned) > max_length:
        raise TextRefused(
            f"{what} of {len(cleaned)} characters, at most {max_length} are taken: shorten it"
        )
    markup = _MARKUP.search(cleaned)
    if markup is not None:
        raise TextRefused(f"{what} with control markup {markup.group()!r}: leave it out")
    for at, character in enumerate(cleaned):
        if unicodedata.category(character) in ("Cc", "Cs"):
            shown = cleaned[max(at - _SHOWN // 2, 0) : at + _SHOWN // 2]
            raise TextRefused(f"{what} with a control character, {shown!r}: leave it out")
    return cleaned
