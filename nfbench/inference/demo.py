"""A local web page that shows the prediction for an image dropped on it."""

import base64
import hashlib
import json
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

import nfbench
from nfbench.core.errors import NfbenchError, one_line
from nfbench.inference.decisions import DecisionRule, Decisions
from nfbench.inference.images import Given, Prepared, prepared
from nfbench.inference.output import heatmap, image_of, mask, overlay
from nfbench.inference.predict import Located, Model, Prediction, decide

__all__ = ["LARGEST_UPLOAD", "Demo", "demo_app"]

LARGEST_UPLOAD = 32 << 20
"""Maximum size of an uploaded image in bytes."""

_KEPT = 4
"""Number of images to keep for changing decisions; older ones are dropped."""
_SHOWN = 1024
"""Longest side of pictures on the page, in pixels."""
_HOSTS = ["127.0.0.1", "localhost"]
_TYPE = "application/octet-stream"
_RULES: dict[DecisionRule, str] = {
    "conformal": "conformal",
    "quantile": "quantile of normal scores",
    "sigma": "mean + deviations",
    "nfa": "number of false alarms",
}
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class _Scored(NamedTuple):
    """An image with its scores and the seconds that scoring took."""

    image: Prepared
    located: Located
    seconds: float


class Demo:
    """Scores uploaded images, and decides on them by any rule without scoring again.

    Args:
        model: model for scoring.
        folder: folder for the kept images.
        title: title of the model on the page.
    """

    def __init__(self, model: Model, folder: Path, title: str) -> None:
        self.model, self.folder, self.title = model, folder, title
        self.thresholds = model.thresholds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, dict[bool, _Scored]] = OrderedDict()
        self.rules = [rule for rule in _RULES if rule != "nfa" or self._has_nfa()]

    def add(self, content: bytes) -> str:
        """Scores an image and returns its name for ``decision``.

        Raises:
            NfbenchError: the image cannot be read, or its score is not finite; one line.
        """
        name = secrets.token_hex(8)
        path = self.folder / name
        path.write_bytes(content)
        try:
            scored = self._score(next(prepared([Given(str(path), name)], self.model.size, 1)), nfa=False)
        except NfbenchError as error:
            path.unlink()
            raise NfbenchError(str(error).replace(str(path), "this file")) from error
        with self._lock:
            self._kept[name] = {False: scored}
            while len(self._kept) > _KEPT:
                dropped, _ = self._kept.popitem(last=False)
                (self.folder / dropped).unlink()
        return name

    def decision(self, name: str, rule: DecisionRule, alpha: float, sigmas: float) -> dict[str, Any]:
        """Decides on an image by a rule; returns the decision with pictures as data URLs.

        Raises:
            KeyError: the image is no longer kept.
            NfbenchError: the rule cannot decide; one line.
        """
        decisions = Decisions.of(self.thresholds, rule, alpha, sigmas)
        scores, nfa = self._kept[name], rule == "nfa"
        if nfa not in scores:
            scores[nfa] = self._score(scores[False].image, nfa)
        image, located, seconds = scores[nfa]
        score_map = None if located.maps is None else located.maps[0]
        found = decide(decisions, image, float(located.scores[0]), score_map, seconds)
        detection = found.detection
        return {
            "anomalous": found.anomalous,
            "score": found.score,
            "p_value": found.p_value,
            "threshold": decisions.image,
            "pixel_threshold": decisions.pixel,
            "regions": None if detection is None else len(detection.boxes),
            "area": None if detection is None else float(detection.mask.mean()),
            "size": image.size,
            "seconds": round(found.seconds, 3),
            "pictures": _pictures(found, decisions),
        }

    @property
    def page(self) -> dict[str, Any]:
        """Returns what the page shows about the model."""
        normal = self.thresholds.scores
        return {
            "title": self.title,
            "version": nfbench.__version__,
            "source": self.thresholds.source,
            "normal": normal.tolist(),
            "smallest_alpha": math.ceil(1000 / (len(normal) + 1)) / 1000,
            "rules": {rule: _RULES[rule] for rule in self.rules},
            "largest": LARGEST_UPLOAD,
        }

    def _score(self, image: Prepared, nfa: bool) -> _Scored:
        if image.square is None:
            raise NfbenchError(image.error)
        with self._lock:
            started = time.monotonic()
            located = self.model.locate([image.square], nfa)
            return _Scored(image, located, time.monotonic() - started)

    def _has_nfa(self) -> bool:
        """Whether the rule ``nfa`` works for the model; the call also warms the model up."""
        grey = Image.new("RGB", self.model.size.width_height if self.model.size else (64, 64), (128, 128, 128))
        try:
            return self.model.locate([grey], True).maps is not None
        except NfbenchError:
            return False


def demo_app(demo: Demo) -> Starlette:
    """Returns the app: the page, ``POST /images`` for a file, and ``GET /decisions``.

    Requests with a host name other than this machine's are refused, so that a foreign page cannot reach the app through
    its own domain. Nor can such a page send a file, since that needs a content type for which browsers ask permission.
    """
    page, policy = _rendered(demo.page)
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

    async def show(_request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={**headers, "Cache-Control": "no-store"})

    async def add(request: Request) -> JSONResponse:
        if request.headers.get("content-type") != _TYPE:
            return _refused(415, f"expected an image as {_TYPE}")
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > LARGEST_UPLOAD:
                return _refused(413, f"the file is larger than {LARGEST_UPLOAD >> 20} MB")
        return await _answer(lambda: {"image": demo.add(bytes(content))})

    async def decisions(request: Request) -> JSONResponse:
        asked = request.query_params
        try:
            name, rule = asked["image"], asked["rule"]
            alpha, sigmas = float(asked.get("alpha", "0.05")), float(asked.get("sigmas", "3"))
            if rule not in demo.rules or not (0 < alpha < 1 and 0 <= sigmas < math.inf):
                raise ValueError
        except (KeyError, ValueError):
            return _refused(400, "expected an image, a listed rule, alpha between 0 and 1, and sigmas of at least 0")
        return await _answer(lambda: demo.decision(name, rule, alpha, sigmas))

    routes = [Route("/", show), Route("/images", add, methods=["POST"]), Route("/decisions", decisions)]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)])


async def _answer(work: Callable[[], dict[str, Any]]) -> JSONResponse:
    try:
        return JSONResponse(await run_in_threadpool(work), headers={"Cache-Control": "no-store"})
    except NfbenchError as error:
        return _refused(422, one_line(error))
    except KeyError:
        return _refused(404, "this image is no longer kept; drop it again")


def _refused(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=status)


def _pictures(found: Prediction, decisions: Decisions) -> dict[str, str]:
    image = image_of(found)
    shown = {"image": _url(image, "JPEG")}
    if found.score_map is not None and found.detection is not None:
        shown["overlay"] = _url(overlay(image, found.score_map, found.detection, decisions), "JPEG")
        shown["heatmap"] = _url(heatmap(found.score_map, decisions), "JPEG")
        shown["mask"] = _url(mask(found.detection), "PNG")
    return shown


def _url(picture: Image.Image, kind: str) -> str:
    picture.thumbnail((_SHOWN, _SHOWN))
    buffer = BytesIO()
    picture.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _rendered(data: dict[str, Any]) -> tuple[str, str]:
    """Returns the page and a content security policy that allows only its own script, style and server."""
    folder = files(__name__.rpartition(".")[0])
    template, style, script = (folder.joinpath(f"demo.{kind}").read_text() for kind in ("html", "css", "js"))
    text = json.dumps(data, allow_nan=False)
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    page = (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(data=data, json=text, style=style, script=script)
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
