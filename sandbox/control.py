"""The routes under `/_sandbox/` that every stand-in has: its call log and its fault rules.

Routes of one service only (uploads, jobs, issued secrets, files) are in the package of that service.
"""

from collections.abc import Callable

from flask import Blueprint, Response, jsonify, request

from sandbox.calls import CallLog
from sandbox.fault_rules import InvalidRuleError, RuleBook


def control_blueprint(find_log: Callable[[], CallLog], find_rules: Callable[[], RuleBook]) -> Blueprint:
    """Return the routes. They look up log and rules late, because both wrap the application that has this blueprint."""
    control = Blueprint("control", __name__, url_prefix="/_sandbox")

    @control.get("/calls")
    def list_calls() -> Response:
        return jsonify(calls=find_log().as_json())

    @control.delete("/calls")
    def forget_calls() -> tuple[str, int]:
        find_log().clear()
        return "", 204

    @control.get("/faults")
    def list_faults() -> Response:
        return jsonify(faults=find_rules().as_json())

    @control.post("/faults")
    def add_fault() -> tuple[Response, int]:
        try:
            rule = find_rules().add(request.get_json(force=True, silent=True))
        except InvalidRuleError as error:
            return jsonify(error={"code": "invalid_rule", "message": str(error)}), 400
        return jsonify(rule.as_json()), 201

    @control.delete("/faults")
    def forget_faults() -> tuple[str, int]:
        find_rules().remove()
        return "", 204

    @control.delete("/faults/<int:number>")
    def forget_fault(number: int) -> tuple[str, int]:
        find_rules().remove(number)
        return "", 204

    return control
