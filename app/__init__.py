"""The visionA conversion gateway: the only way from the visionA frontend to the conversion services.

`create_app` is all that a server needs. The layers, from the top down: `console` (the page), `api` (the edge),
`bootstrap` (the composition root), `services`, `clients` and `library`, `server`,
`advice` and `streaming`, `domain`, `errors`.
"""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from flask import Flask

    from app.bootstrap import Gateway
    from app.config import Settings


def create_app(settings: "Settings | None" = None, gateway: "Gateway | None" = None) -> "Flask":
    """Build the WSGI application from the environment, or from what a test hands in. Connects to nothing yet.

    Raises app.config.ConfigurationError, which names every problem of the environment at once.
    """
    # Imported here, so that importing one layer of the package does not load all of them.
    import structlog  # noqa: PLC0415
    from flask import Flask  # noqa: PLC0415
    from flask.json.provider import DefaultJSONProvider  # noqa: PLC0415

    from app import console, metrics  # noqa: PLC0415
    from app.api import conversion, hooks, models, operations, problem, session, signin  # noqa: PLC0415
    from app.api.context import EXTENSION  # noqa: PLC0415
    from app.api.openapi import views as openapi  # noqa: PLC0415
    from app.api.requests import GatewayRequest  # noqa: PLC0415
    from app.bootstrap import build_gateway  # noqa: PLC0415
    from app.config import load_settings  # noqa: PLC0415
    from app.console import problem_page  # noqa: PLC0415
    from app.log import configure_logging  # noqa: PLC0415

    settings = settings or load_settings()
    configure_logging(settings.log_format, settings.secrets)
    for warning in settings.warnings():
        structlog.get_logger(__name__).warning("configuration.warning", problem=warning)

    metrics.begin_to_count()

    app = Flask(__name__, static_folder=None)
    app.request_class = GatewayRequest
    provider = cast(DefaultJSONProvider, app.json)
    provider.sort_keys = False
    provider.ensure_ascii = False
    provider.compact = True
    # A path with a slash too many is another path, not a redirect.
    app.url_map.redirect_defaults = False
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.extensions[EXTENSION] = gateway or build_gateway(settings)
    session.register(app, settings)
    hooks.register(app, settings)
    problem.register(app)
    signin.register(app, settings)
    openapi.register(app, settings)
    problem_page.register(app)
    for blueprint in (conversion.blueprint, models.blueprint, operations.blueprint, console.blueprint):
        app.register_blueprint(blueprint)
    return app
