"""`/__sandbox/*`: faults, time, keys and scripts over HTTP, for tests in another process or language.

The law of this file: each route does what the `Sandbox` method of the same name does; off unless asked for.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from classifaily_connectors.errors import ConfigurationError

from .clock import SandboxClock
from .controls import Controls
from .faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from .app import Core


def admin_routes(core: Core) -> list[Route]:
    """The routes, in force for this core."""
    controls = Controls(core)
    return [
        _post("/__sandbox/faults", lambda data: controls.inject(Fault.read(data))),
        _delete("/__sandbox/faults", controls.clear_faults),
        _post("/__sandbox/clock", lambda data: _move(core, data)),
        _get("/__sandbox/clock", lambda: {"now": core.clock.now().isoformat()}),
        _post("/__sandbox/keys", lambda data: _change_key(controls, data)),
        _post("/__sandbox/scripts", lambda data: controls.script(data.pop("input"), **data)),
        _get("/__sandbox/requests", lambda: [record._asdict() for record in controls.requests]),
        _get("/__sandbox/deliveries", lambda: [record._asdict() for record in controls.deliveries]),
        _get("/__sandbox/switches", lambda: asdict(core.service.switches)),
        _delete("/__sandbox/bill", controls.reset_bill),
    ]


def _move(core: Core, data: dict[str, Any]) -> None:
    if not isinstance(core.clock, SandboxClock):
        raise ConfigurationError("this sandbox runs on its owner's clock: move that one")
    if "set" in data:
        core.clock.set(datetime.fromisoformat(data["set"]))
    core.clock.advance(**data.get("advance", {}))


def _change_key(controls: Controls, data: dict[str, Any]) -> None:
    match data.get("standing", "active"):
        case "active":
            controls.add_key(data["key"], plan=data.get("plan", "starter"), used=data.get("used"))
        case "revoked":
            controls.revoke(data["key"])
        case "lapsed":
            controls.lapse(data["key"])
        case other:
            raise ConfigurationError(f"standing must be active, revoked or lapsed, not {other!r}")


def _post(path: str, act: Callable[[dict[str, Any]], None]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            act(await request.json())
        except KeyError as error:
            return JSONResponse({"error": f"field {error} is required"}, 400)
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=204)

    return Route(path, endpoint, methods=["POST"])


def _get(path: str, read: Callable[[], Any]) -> Route:
    async def endpoint(_: Request) -> Response:
        return JSONResponse(read())

    return Route(path, endpoint, methods=["GET"])


def _delete(path: str, act: Callable[[], None]) -> Route:
    async def endpoint(_: Request) -> Response:
        act()
        return Response(status_code=204)

    return Route(path, endpoint, methods=["DELETE"])
