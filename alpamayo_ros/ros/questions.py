"""~/ask: a question about the newest instant, answered between ticks."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from alpamayo_ros.questions import AskResult
from alpamayo_ros.ros.convert import to_time
from alpamayo_ros.srv import AskScene

# A question to its result, and the model's name ("" while none is loaded). It may take long.
Ask = Callable[[str], tuple[AskResult, str]]


class QuestionService:
    """Answers every call, whatever happens; to be run beside the executor, since it waits."""

    def __init__(self, node: Node, ask: Ask) -> None:
        self._node, self._ask = node, ask
        # Reentrant: a second question must be told "busy" while the first is under way.
        self.service = node.create_service(
            AskScene, "~/ask", self._on_question, callback_group=ReentrantCallbackGroup()
        )

    def _on_question(self, request: Any, response: Any) -> Any:
        try:
            result, response.model = self._ask(request.question)
        except Exception as error:  # unanswered, the caller would wait for ever
            self._node.get_logger().error(f"a question failed:\n{traceback.format_exc()}")
            result = AskResult(None, f"{type(error).__name__}: {error}")
        response.success = result.answer is not None
        response.message = result.message
        response.latency_ms = result.latency_ms
        if result.answer is not None:
            response.answer = result.answer.text
            response.t0 = to_time(result.answer.t0_ns)
        return response
