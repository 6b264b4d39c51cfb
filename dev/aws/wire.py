"""HTTP requests of any AWS protocol to calls, and answers back: by the service models that botocore ships."""

import base64
import io
import json
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import HTTPException

#: Names in a credential scope that differ from botocore's name of the service.
_BY_SIGNING_NAME = {
    "monitoring": "cloudwatch",
    "email": "ses",
    "elasticloadbalancing": "elbv2",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
}

Environ = dict[str, Any]


class Refused(Exception):
    """An AWS error to answer with. Shape: `members` are further members of the error's shape."""

    def __init__(self, code: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


class _Error(ServiceException):
    """An error as moto serializes it. Of our own module: moto looks for a service model by the module's name."""


# moto warns of codes that a service's model does not list, as AccessDenied never is.
warnings.filterwarnings("ignore", message=r"Exception\(_Error\)")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a request's signature says of it."""

    access_key: str
    region: str
    service: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def header(self) -> Mapping[str, str]:
        """The headers by lower-case name."""
        return {name.lower(): value for name, value in self.headers}

    @property
    def error_code(self) -> str | None:
        """The AWS error code; None for a success."""
        return _error_code(self) if self.status >= 400 else None


@dataclass(kw_only=True)
class Call:
    """One AWS call. Shape: `service` and `operation` as in botocore's model (`lambda`, `GetFunction`)."""

    scope: Scope
    service: str
    operation: str
    arguments: dict[str, Any]
    environ: Environ
    body: bytes
    model: OperationModel
    protocol: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def region(self) -> str:
        """The region that was signed for."""
        return self.scope.region

    @property
    def name(self) -> tuple[str, str]:
        """Service and operation."""
        return self.service, self.operation

    def answer(self, result: Any, *, status: int | None = None) -> Reply:
        """Return a success, in the call's protocol."""
        return self._serialized(result, status)

    def refuse(self, error: Refused) -> Reply:
        """Return an error, in the call's protocol."""
        exception = _Error(error.code, error.message)
        for name, value in error.members.items():
            setattr(exception, name, value)
        return self._serialized(exception, error.status)

    def _serialized(self, result: Any, status: int | None) -> Reply:
        model = self.model.service_model
        serializer = get_serializer_class(model.service_name, self.protocol)(
            operation_model=self.model, context=SerializationContext(self.id)
        )
        made = serializer.serialize(result)
        body = made["body"]
        return Reply(
            status=status or made["status_code"],
            headers=tuple({**{k: str(v) for k, v in made["headers"].items()}, "x-amzn-RequestId": self.id}.items()),
            body=body if isinstance(body, bytes) else (body or "").encode(),
        )


def scope_of(environ: Environ) -> Scope | None:
    """Return what the signature says; None for an unsigned request."""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    credential = ""
    if "Credential=" in authorization:
        credential = authorization.split("Credential=", 1)[1].split(",", 1)[0].strip()
    else:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        credential = query.get("X-Amz-Credential", [""])[0]
    parts = credential.split("/")
    if len(parts) != 5:
        return None
    return Scope(access_key=parts[0], region=parts[2], service=parts[3].lower())


def read_body(environ: Environ) -> bytes:
    """Return the request's body and put it back for whoever reads it next."""
    stream = environ["wsgi.input"]
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        body = stream.read()
        del environ["HTTP_TRANSFER_ENCODING"]
    else:
        body = stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["CONTENT_LENGTH"] = str(len(body))
    rewind(environ, body)
    return bytes(body)


def rewind(environ: Environ, body: bytes) -> None:
    """Let the body be read again."""
    environ["wsgi.input"] = io.BytesIO(body)


def parse(environ: Environ, scope: Scope, body: bytes) -> Call:
    """Return the call a request makes. Errors: Refused for what no service model knows."""
    service = _service(environ, scope, body)
    try:
        model = get_service_model(service)
    except Exception as error:  # botocore has its own error for each way of not knowing a service
        raise Refused("UnknownService", f"the simulator does not know service {scope.service}: {error}") from None
    request = Request(dict(environ))
    try:
        operation, uri = get_service_router(service).match(request)
    except (HTTPException, NotImplementedError):
        raise Refused("UnknownOperationException", f"no operation of {service} looks like this", status=404) from None
    protocol = determine_request_protocol(model, request.content_type)
    rewind(environ, body)
    request = Request(dict(environ))
    parser = PROTOCOL_PARSERS[protocol](operation)
    arguments = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": body,
            "url_path": request.path,
            "url_params": uri,
        }
    )
    rewind(environ, body)
    return Call(
        scope=scope,
        service=service,
        operation=str(operation.name),
        arguments=dict(arguments),
        environ=environ,
        body=body,
        model=operation,
        protocol=protocol,
    )


def warm() -> None:
    """Read the service models that every incident needs before somebody waits for them."""
    for service in ("sts", "iam", "lambda", "logs", "cloudwatch", "cloudtrail", "dynamodb", "s3", "kms"):
        get_service_router(service)


def _service(environ: Environ, scope: Scope, body: bytes) -> str:
    if scope.service == "elasticloadbalancing" and b"Version=2012-06-01" in body:
        return "elb"
    if scope.service in ("ses", "email") and environ.get("PATH_INFO", "").startswith("/v2/"):
        return "sesv2"
    return _BY_SIGNING_NAME.get(scope.service, scope.service)


def run_app(app: Callable[..., Iterable[bytes]], environ: Environ) -> Reply:
    """Return what a WSGI application answers."""
    started: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        started.update(status=int(status.split(" ", 1)[0]), headers=headers)
        return lambda _: None

    parts = app(environ, start)
    try:
        body = b"".join(parts)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return Reply(status=started["status"], headers=tuple(started["headers"]), body=body)


def _error_code(reply: Reply) -> str:
    kind = reply.header.get("x-amzn-errortype")
    if kind:
        return kind.split(":")[0].rsplit("#", 1)[-1]
    text = reply.body.decode(errors="replace")
    if "<Code>" in text:
        return text.split("<Code>", 1)[1].split("</Code>", 1)[0]
    try:
        found = json.loads(text)
    except ValueError:
        return str(reply.status)
    named = found.get("__type") or found.get("code") if isinstance(found, dict) else None
    return str(named or reply.status).rsplit("#", 1)[-1]


def plain(value: Any) -> Any:
    """Return a parsed argument as JSON has it: instants in ISO 8601, bytes as base64."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
