"""The page that a person sees at `/`: signing in and out, and where to go from there.

A plain landing page for now; it uses the same API as everybody else and knows nothing that the API does not say.
"""

from flask import Blueprint, Response, render_template

from app.api.problem import language
from app.api.session import current_session
from app.domain.identity import Session
from app.errors import ModelStoreUnavailableError, UnauthenticatedError

blueprint = Blueprint(
    "console", __name__, template_folder="templates", static_folder="static", static_url_path="/console"
)

TEXTS = {
    "en": {
        "lead": "Converts neural networks for Kneron NPUs, from ONNX or TFLite to NEF.",
        "sign_in": "Sign in",
        "sign_out": "Sign out",
        "signed_in_as": "Signed in as",
        "active": "My running job",
        "history": "My conversions",
        "models": "My models",
        "failed": "Signing out did not work. Try again.",
    },
    "zh-TW": {
        "lead": "將神經網路模型由 ONNX 或 TFLite 轉換為 Kneron NPU 可執行的 NEF。",
        "sign_in": "登入",
        "sign_out": "登出",
        "signed_in_as": "目前登入者：",
        "active": "進行中的轉換",
        "history": "轉換紀錄",
        "models": "我的模型",
        "failed": "登出失敗，請再試一次。",
    },
}


@blueprint.get("/")
def landing() -> Response:
    """The landing page, in the reader's language."""
    spoken = language()
    page = render_template("landing.html", language=spoken, texts=TEXTS[spoken], session=_find_session())
    response = Response(page, mimetype="text/html")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept-Language, Cookie"
    return response


def _find_session() -> Session | None:
    try:
        return current_session()
    except (UnauthenticatedError, ModelStoreUnavailableError):
        return None
