"""AWS: the observing port, the executor, and simulation of our own permissions.

The operator's own identity may only assume. Reads share one session per grant, role and region, whose session policy
is the catalogue's read operations; every call of a plan is made under a session of its own, whose policy is that call
on its resources. Source: decision 23; botocore facts (retries, read timeouts) in facts on AWS, section 5.
"""

import contextlib
import functools
import gc
import json
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
)

from ..actions.base import FixAction
from ..actions.catalogue import catalogue
from ..actions.ports import ConnectFrom, FromInstance, HttpAnswer, NotFound, ReadError, RedisAnswer, Rows, Scalar
from ..actions.reads import READS, ListedRead
from ..actions.vantage import DOCUMENT, NO_PATH, PROBE
from ..api.grant import ActionGrant, AwsGrant
from ..api.plan import Call, Permission, Read
from ..core.expressions import plain
from ..core.plan import RETRYABLE
from ..core.redact import redact
from . import cache, probe, sql, vantage
from .connections import Connections
from .tally import Tally

log = logging.getLogger(__name__)

SESSION_SECONDS = 900
#: A session's policy may have so many characters. Source: STS.
POLICY_LIMIT = 2048
#: A session this close to its end is not used any more.
_RENEW_BEFORE = timedelta(seconds=120)

#: Of all diagnoses together, beside those that their checks make themselves.
_READS_AT_ONCE = 16

#: boto3's session is not made for threads; creating a client is what it is used for.
_creating = threading.Lock()


@functools.cache
def _session() -> boto3.session.Session:
    """Return the one session that all clients are made from: it reads the description of a service once."""
    return boto3.session.Session()


def prepare() -> None:
    """Read what botocore knows of the services that are read: half a second that no diagnosis should wait for.

    A client is the only way to have it read; these are made with nobody's credentials, and dropped. Where that fails
    (a profile that is not there), every read says so in its run. What was read stays for as long as the process, so no
    collection of garbage goes through it again: that was most of what there is to go through.
    """
    nobody = {"AccessKeyId": "", "SecretAccessKey": "", "SessionToken": ""}
    try:
        for service in sorted({"sts", *(service for service, _ in READS)}):
            _client(_session(), service, "us-east-1", _READ_CONFIG, nobody)
    except BotoCoreError as error:
        log.warning("AWS clients can't be made: %s", redact(str(error)))
    gc.collect()
    gc.freeze()


def _client(
    session: boto3.session.Session,
    service: str,
    region: str,
    config: Config,
    credentials: Mapping[str, Any] | None = None,
) -> Any:
    """Return a client with the given credentials, else with the session's own."""
    given = {}
    if credentials is not None:
        given = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }
    with _creating:
        return session.client(service, region_name=region, config=config, **given)  # type: ignore[call-overload]


_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "Forbidden",
        "403",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    }
)
_THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}
)
#: Reasons of a failed read that may be gone in a moment.
_PASSING = frozenset({"Throttled", "Timeout", "Unreachable"})
#: Codes that are counted by their own name. What a service answers could be anything: any other is counted as Other.
_COUNTED = (
    _DENIED
    | _THROTTLED
    | _PASSING
    | RETRYABLE
    | {code for listed in READS.values() for code in listed.missing}
    | {
        *("CallNotInCatalogue", "EarlierResultMissing", "SessionPolicyEmpty", "SessionPolicyTooLong", "NoCredentials"),
        *("InvalidRequest", "MalformedAnswer", "NotSentInTime", "InternalError", "InternalFailure", "ServiceException"),
        *("InvalidParameterValueException", "LimitExceeded", "LimitExceededException", "MalformedPolicyDocument"),
        *("ConnectTimeoutError", "ConnectionClosedError", "EndpointConnectionError", "ReadTimeoutError"),
        *("ValidationError", "ValidationException"),
    }
)
_READ_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=2,
    read_timeout=10,
    max_pool_connections=32,
)


#: A probe is sent once: an instance that was asked twice would say nothing more.
_PROBE_CONFIG = _READ_CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
_SEND = ListedRead(permissions=(PROBE,), project=dict)
#: What SSM takes at least for delivering a command.
_DELIVERY_SECONDS = 30

#: Where each partition keeps the CloudTrail events of services without a region.
_GLOBAL_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


class CallFailed(Exception):
    """A call of a plan that did not succeed; `definite` False: whether it took effect is not known.

    `code` is the service's own error code or ours; never a message, which could carry anything.
    """

    def __init__(self, code: str, *, definite: bool) -> None:
        super().__init__(code)
        self.code = redact(code)[:128]
        self.definite = definite


@dataclass(frozen=True, kw_only=True)
class CallAnswer:
    """A call that succeeded: its request id, and the paths of the answer that the plan keeps."""

    request_id: str | None
    result: Any = None


class Memo:
    """The reads of one diagnosis: the same read is made once, whoever asks first."""

    def __init__(self, ahead: ThreadPoolExecutor) -> None:
        self._lock = threading.Lock()
        self._ahead = ahead
        self._made: dict[str, Future[Any]] = {}

    def begin(self, key: str, make: Callable[[], Any]) -> None:
        """Make it in another thread, unless it is made already; `get` gives what came of it."""
        with self._lock:
            if key in self._made:
                return
            try:
                self._made[key] = self._ahead.submit(make)
            except RuntimeError:  # the process ends: no thread is begun any more, and whoever asks makes it
                return

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, making it once. Errors: those of `make`, for all who asked."""
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
        if mine:
            try:
                future.set_result(make())
            except Exception as error:
                future.set_exception(error)
        return future.result()


@dataclass(kw_only=True)
class _Session:
    """Credentials of an assumed role, and its clients."""

    credentials: Mapping[str, Any]
    until: datetime
    clients: dict[str, Any] = field(default_factory=dict)


class Gateway:
    """All of AWS that the operator has. Synchronous and for many threads.

    Shape: `boto_session` keeps the credentials that it found first; without one it is the process's own.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        scaled: Callable[[timedelta], timedelta],
        boto_session: boto3.session.Session | None = None,
    ) -> None:
        self._now, self._scaled = now, scaled
        self._boto_session = boto_session
        self._lock = threading.Lock()
        #: By role, region and the permissions of their session policy.
        self._sessions: dict[tuple[str, str, tuple[str, ...]], _Session] = {}
        self._unsigned: dict[tuple[str, str], Any] = {}
        self._sts: Any = None
        #: A call and its client's retries are one. What the listed read means by "there is none" is no error.
        self.calls = Tally("service", "operation")
        self.errors = Tally("service", "operation", "code")
        # Of its own: threads of the effects' pool wait for these.
        self._ahead = ThreadPoolExecutor(_READS_AT_ONCE, thread_name_prefix="read")

    def _client(self, service: str, region: str, config: Config, credentials: Mapping[str, Any] | None = None) -> Any:
        return _client(self._boto_session or _session(), service, region, config, credentials)

    def memo(self) -> Memo:
        """Return a memo for one diagnosis."""
        return Memo(self._ahead)

    def reader(
        self,
        grant: ActionGrant,
        *,
        since: datetime,
        memo: Memo | None,
        connections: Connections | None = None,
        api_server: probe.Endpoint | None = None,
        observe_only: bool = False,
    ) -> "GrantReader":
        """Return one observation's view under a grant.

        Shape: `api_server` is never an address for a probe. With `observe_only` no instance is sent a command.
        """
        return GrantReader(
            self,
            grant,
            now=self._now(),
            since=since,
            memo=memo or self.memo(),
            scaled=self._scaled,
            connections=connections,
            api_server=api_server,
            observe_only=observe_only,
        )

    def read(self, grant: AwsGrant, region: str, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Make one listed read. Errors: ReadError; PermissionError for what is not listed."""
        listed = READS.get((service, operation))
        if listed is None:
            raise PermissionError(f"{service}.{operation} is not a listed read")
        self.calls.count(service, operation)
        try:
            return self._read(grant, region, service, operation, arguments, listed)
        except NotFound:
            raise
        except ReadError as error:
            self._failed(service, operation, error.code or error.reason)
            raise

    def _failed(self, service: str, operation: str, code: str) -> None:
        code = code.removeprefix("AssumeRole.")
        self.errors.count(service, operation, code if code in _COUNTED else "Other")

    def _read(
        self,
        grant: AwsGrant,
        region: str,
        service: str,
        operation: str,
        arguments: Mapping[str, Any],
        listed: ListedRead,
    ) -> Any:
        with _as_read(f"{service}.{operation}", listed):
            client = self._client_for(listed, grant, region, service)
            answer = _ask(client, operation, arguments, listed)
            return plain(listed.project(plain(answer)))

    def send_probe(
        self,
        grant: AwsGrant,
        region: str,
        instances: Sequence[str],
        document: Mapping[str, str],
        host: str,
        port: int,
        seconds: int,
        path: str = NO_PATH,
    ) -> str:
        """Send the one probe document to instances, once, and return the command's id.

        It is made under a session of its own: that document, those instances, nothing else. Whoever calls has seen
        that the grant admits both. Shape: `document` is its version, hash and kind of hash. Errors: ReadError.
        """
        of = f"arn:{grant.role_arn.split(':')[1]}"
        resources = [f"{of}:ssm:{region}:{grant.account}:document/{DOCUMENT}"]
        resources += [f"{of}:ec2:{region}:{grant.account}:instance/{instance}" for instance in instances]
        self.calls.count("ssm", "send_command")
        try:
            with _as_read("ssm.send_command", _SEND):
                policy = session_policy((PROBE,), resources)
                role = grant.read_role_arn or grant.role_arn
                credentials = self._assume(role, grant.regions[0], "incident-operator-probe", policy)
                answer = self._client("ssm", region, _PROBE_CONFIG, credentials).send_command(
                    DocumentName=DOCUMENT,
                    InstanceIds=list(instances),
                    Parameters={
                        **{"host": [host], "port": [str(port)], "seconds": [str(seconds)]},
                        **({"path": [path]} if path != NO_PATH else {}),
                    },
                    TimeoutSeconds=_DELIVERY_SECONDS,
                    **{name: document[name] for name in ("DocumentVersion", "DocumentHash", "DocumentHashType")},
                )
                return str(answer["Command"]["CommandId"])
        except ReadError as error:
            self._failed("ssm", "send_command", error.code or error.reason)
            raise

    def simulate(self, grant: AwsGrant, calls: Sequence[Call]) -> Permission:
        """Return what the grant's role may do of these calls, by simulation; what can't be simulated is unknown."""
        pairs = sorted({(p, r) for c in calls for p in c.permissions for r in c.resources})
        allowed: list[str] = []
        denied: list[str] = []
        unknown: list[str] = []
        verdicts = self._ahead.map(lambda pair: self._may(grant, *pair), pairs)
        for (permission, resource), may in zip(pairs, verdicts, strict=True):
            {True: allowed, False: denied, None: unknown}[may].append(f"{permission} {resource}"[:128])
        return Permission(allowed=tuple(allowed), denied=tuple(denied), unknown=tuple(unknown))

    def _may(self, grant: AwsGrant, permission: str, resource: str) -> bool | None:
        """Tell by simulation whether the grant's role may do it; None where that can't be simulated."""
        return self.may(grant, grant.role_arn, (permission,), resource)[permission]

    def may(self, grant: AwsGrant, role: str, permissions: Sequence[str], resource: str) -> dict[str, bool | None]:
        """Tell by one simulation which of these a role may do on a resource; None where that can't be simulated."""
        arguments = {"PolicySourceArn": role, "ActionNames": list(permissions), "ResourceArns": [resource]}
        try:
            results = self.read(grant, grant.regions[0], "iam", "simulate_principal_policy", arguments)
        except ReadError:
            return dict.fromkeys(permissions)
        decided = {r["action"].lower(): r["decision"] == "allowed" for r in results}
        return {permission: decided.get(permission.lower()) for permission in permissions}

    def execute(
        self,
        call: Call,
        grant: AwsGrant,
        region: str,
        run_name: str,
        results: Mapping[int, Any],
        timeout: timedelta,
        deadline: datetime,
    ) -> CallAnswer:
        """Make one call of a plan, once, under a session of just that call.

        Shape: `results` are the kept results of the plan's earlier calls, by index. `deadline` is the intent's: after
        it the call is not sent any more, since whoever judges the intent by then takes it for sent or lost.
        Errors: CallFailed.
        """
        try:
            return self._execute(call, grant, region, run_name, results, timeout, deadline)
        except CallFailed as failed:
            self._failed(call.service, call.operation, failed.code)
            raise

    def _execute(
        self,
        call: Call,
        grant: AwsGrant,
        region: str,
        run_name: str,
        results: Mapping[int, Any],
        timeout: timedelta,
        deadline: datetime,
    ) -> CallAnswer:
        if not any(
            call.permissions and set(call.permissions) <= set(a.writes)
            for a in catalogue().values()
            if isinstance(a, FixAction)
        ):
            raise CallFailed("CallNotInCatalogue", definite=True)
        arguments = _with_results(dict(call.arguments), results)
        for guard in call.volatile:
            arguments[guard.argument] = self._fresh(grant, region, guard.read, guard.path)
        client = self._calling_client(call, grant, region, run_name, timeout)
        if self._now() >= deadline:
            raise CallFailed("NotSentInTime", definite=True)
        self.calls.count(call.service, call.operation)
        try:
            answer = getattr(client, call.operation)(**arguments)
            kept = _kept(answer, call.keep)
        except ParamValidationError:
            raise CallFailed("InvalidRequest", definite=True) from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise CallFailed(_code(error), definite=status < 500) from None
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise _not_sent(type(error).__name__) from None
        except BotoCoreError as error:
            raise CallFailed(type(error).__name__, definite=False) from None
        return CallAnswer(request_id=answer.get("ResponseMetadata", {}).get("RequestId"), result=kept)

    def value(self, grant: AwsGrant, region: str, read: Read, path: str) -> Any:
        """Return what a listed read has at a path now; None where the thing or the path is not there.

        Errors: ReadError.
        """
        try:
            answer = self.read(grant, region, read.service, read.operation, read.arguments)
        except NotFound:
            return None
        try:
            return _at(answer, path)
        except (KeyError, IndexError, TypeError):
            return None

    def _fresh(self, grant: AwsGrant, region: str, read: Read, path: str) -> Any:
        """Return a guard's value as it is now."""
        try:
            return _at(self.read(grant, region, read.service, read.operation, read.arguments), path)
        except (KeyError, IndexError, TypeError):
            raise CallFailed("MalformedAnswer", definite=True) from None
        except ReadError as error:
            if error.reason in _PASSING:
                raise _not_sent(error.code or error.reason) from None
            raise CallFailed(error.code or error.reason, definite=True) from None

    def _calling_client(self, call: Call, grant: AwsGrant, region: str, run_name: str, timeout: timedelta) -> Any:
        policy = session_policy(call.permissions, call.resources)
        try:
            credentials = self._assume(grant.role_arn, grant.regions[0], _session_name(run_name), policy)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or _code(error) in _THROTTLED:
                raise _not_sent(f"AssumeRole.{_code(error)}") from None
            raise CallFailed(f"AssumeRole.{_code(error)}", definite=True) from None
        except HTTPClientError as error:
            raise _not_sent(f"AssumeRole.{type(error).__name__}") from None
        except BotoCoreError as error:
            raise CallFailed(f"AssumeRole.{type(error).__name__}", definite=True) from None
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=min(3.0, timeout.total_seconds()),
            read_timeout=timeout.total_seconds(),
        )
        return self._client(call.service, region, config, credentials)

    def _client_for(self, listed: ListedRead, grant: AwsGrant, region: str, service: str) -> Any:
        """Return a client of the grant's reading role, or for what anybody may ask, of nobody."""
        if not listed.unsigned:
            return self._reading_client(grant, region, service)
        with self._lock:
            if (region, service) not in self._unsigned:
                config = _READ_CONFIG.merge(Config(signature_version=UNSIGNED))
                self._unsigned[region, service] = self._client(service, region, config)
            return self._unsigned[region, service]

    def _reading_client(self, grant: AwsGrant, region: str, service: str) -> Any:
        role, may = grant.read_role_arn or grant.role_arn, _readable(service, len(READS))
        with self._lock:
            session = self._sessions.get((role, region, may))
            if session is None or session.until - _RENEW_BEFORE < self._now():
                policy = session_policy(may, ("*",))
                credentials = self._assume(role, grant.regions[0], "incident-operator-read", policy)
                session = _Session(credentials=credentials, until=credentials["Expiration"].astimezone(UTC))
                self._sessions[role, region, may] = session
            if service not in session.clients:
                session.clients[service] = self._client(service, region, _READ_CONFIG, session.credentials)
            return session.clients[service]

    def _assume(self, role: str, region: str, name: str, policy: str) -> Mapping[str, Any]:
        if self._sts is None:
            self._sts = self._client("sts", region, _READ_CONFIG)
        self.calls.count("sts", "assume_role")
        try:
            answer = self._sts.assume_role(
                RoleArn=role, RoleSessionName=name, Policy=policy, DurationSeconds=SESSION_SECONDS
            )
        except ClientError as error:
            self._failed("sts", "assume_role", _code(error))
            raise
        except BotoCoreError as error:
            self._failed("sts", "assume_role", type(error).__name__)
            raise
        credentials: Mapping[str, Any] = answer["Credentials"]
        return credentials


class GrantReader:
    """One observation under one grant: implements `actions.ports.Reader`."""

    def __init__(
        self,
        gateway: Gateway,
        grant: ActionGrant,
        *,
        now: datetime,
        since: datetime,
        memo: Memo,
        scaled: Callable[[timedelta], timedelta],
        connections: Connections | None = None,
        api_server: probe.Endpoint | None = None,
        observe_only: bool = False,
    ) -> None:
        self._gateway, self._grant, self._memo, self._scaled = gateway, grant, memo, scaled
        self._now, self._since = now, since
        self._runs_connections, self._api_server, self._observe_only = connections, api_server, observe_only

    @property
    def now(self) -> datetime:
        """The instant of this observation."""
        return self._now

    @property
    def since(self) -> datetime:
        """The start of what may be looked back on."""
        return self._since

    @property
    def account(self) -> str:
        """The grant's account."""
        return self._aws.account

    @property
    def region(self) -> str:
        """The grant's first region."""
        return self._aws.regions[0]

    @property
    def global_region(self) -> str:
        """The region that has the events of services without one."""
        return _GLOBAL_REGIONS[self._aws.role_arn.split(":")[1]]

    @property
    def protected_actors(self) -> tuple[str, ...]:
        """Those whose removals are on purpose."""
        return self._grant.spec.aws.protected_actors if self._grant.spec.aws else ()

    def scaled(self, wait: timedelta) -> timedelta:
        """Divide a wait by the time scale."""
        return self._scaled(wait)

    def aws(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None = None, *, region: str | None = None
    ) -> Any:
        """Make one listed read, once per diagnosis. Errors: ReadError."""
        where = region or self.region
        if not self._is_granted(service, where):
            raise ReadError("NotGranted", f"ActionGrant {self._grant.metadata.name} does not list region {where}")
        return self._memo.get(*self._listed_read(service, operation, arguments, where))

    def prefetch(self, service: str, operation: str, *arguments: Mapping[str, Any], region: str | None = None) -> None:
        """Begin listed reads; of a region that is not granted none, as `aws` says."""
        where = region or self.region
        if self._is_granted(service, where):
            for given in arguments:
                self._memo.begin(*self._listed_read(service, operation, given, where))

    def _is_granted(self, service: str, region: str) -> bool:
        trail = service == "cloudtrail" and region == self.global_region
        return region in self._aws.regions or trail

    def _listed_read(
        self, service: str, operation: str, arguments: Mapping[str, Any] | None, region: str
    ) -> tuple[str, Callable[[], Any]]:
        """Return the key of a read in the memo, and what makes it."""
        given = dict(arguments or {})
        key = json.dumps([self._grant.metadata.name, region, service, operation, given], sort_keys=True, default=str)
        return key, lambda: self._gateway.read(self._aws, region, service, operation, given)

    def http_get(self, url: str, *, timeout: timedelta, parse_json: bool = False) -> HttpAnswer:
        """GET an address the grant admits. Errors: ReadError."""
        return probe.get(
            url, self._grant.spec.probes, timeout=timeout, parse_json=parse_json, api_server=self._api_server
        )

    def postgres(
        self,
        connection: str,
        statement: str,
        arguments: Sequence[Scalar] = (),
        *,
        max_rows: int = 20,
        timeout: timedelta = timedelta(seconds=5),
    ) -> Rows:
        """Ask one SELECT, once per diagnosis. Errors: ReadError."""

        def ask() -> Rows:
            return sql.query(
                self._connections.target(connection, "PostgreSQL"),
                self._grant.spec.probes,
                self._connections.slots,
                statement,
                arguments,
                max_rows=max_rows,
                timeout=timeout,
                api_server=self._api_server,
            )

        key = [self._grant.metadata.name, "postgres", connection, statement, list(arguments), max_rows, str(timeout)]
        rows: Rows = self._memo.get(json.dumps(key), ask)
        return rows

    def postgres_place(self, connection: str) -> str:
        """Return where a connection leads, by its Secret. Errors: ReadError."""
        return self._connections.target(connection, "PostgreSQL").place

    def redis(self, connection: str, command: str, *, timeout: timedelta = timedelta(seconds=5)) -> RedisAnswer:
        """Send one listed command, once per diagnosis. Errors: ReadError."""

        def ask() -> RedisAnswer:
            return cache.ask(
                self._connections.target(connection, "Redis"),
                self._grant.spec.probes,
                self._connections.slots,
                command,
                timeout=timeout,
                api_server=self._api_server,
            )

        key = [self._grant.metadata.name, "redis", connection, command, str(timeout)]
        answer: RedisAnswer = self._memo.get(json.dumps(key), ask)
        return answer

    def tcp(self, host: str, port: int, *, timeout: timedelta) -> timedelta:
        """Connect to an address the grant admits. Errors: ReadError."""
        return probe.connect(host, port, self._grant.spec.probes, timeout=timeout, api_server=self._api_server)

    def tcp_from(
        self, asked: Sequence[ConnectFrom], *, timeout: timedelta, region: str | None = None
    ) -> tuple[FromInstance, ...]:
        """Let instances that the grant lists connect or GET, the same once per diagnosis. Errors: ReadError."""
        where = region or self.region

        def ask() -> tuple[FromInstance, ...]:
            return vantage.ask(
                self._gateway,
                self._grant,
                where,
                asked,
                timeout=timeout,
                read=lambda operation, arguments: self.aws("ssm", operation, arguments, region=where),
                api_server=self._api_server,
                observe_only=self._observe_only,
            )

        places = [[list(one.instances), one.host, one.port, one.path] for one in asked]
        key = json.dumps([self._grant.metadata.name, where, "tcp_from", places, str(timeout)])
        answers: tuple[FromInstance, ...] = self._memo.get(key, ask)
        return answers

    @property
    def _connections(self) -> Connections:
        if self._runs_connections is None:
            raise ReadError("ConnectionMissing", "here no connection of a run can be used")
        return self._runs_connections

    @property
    def _aws(self) -> AwsGrant:
        if self._grant.spec.aws is None:
            raise ReadError("NotGranted", f"ActionGrant {self._grant.metadata.name} has no aws section")
        return self._grant.spec.aws


@contextlib.contextmanager
def _as_read(what: str, listed: ListedRead) -> Iterator[None]:
    """Say what went wrong in the words of the port. Errors: ReadError."""
    try:
        yield
    except ClientError as error:
        raise _read_error(error, what, listed) from None
    except (NoCredentialsError, PartialCredentialsError):
        message = "the operator has no AWS credentials: give its service account a role (IRSA)"
        raise ReadError("AccessDenied", message, code="NoCredentials") from None
    except (ReadTimeoutError, ConnectTimeoutError):
        raise ReadError("Timeout", f"{what}: AWS did not answer in time") from None
    except EndpointConnectionError:
        raise ReadError("Unreachable", f"{what}: AWS can't be reached") from None
    except ParamValidationError:
        raise ReadError("InvalidRequest", f"{what}: AWS does not take these arguments") from None
    except BotoCoreError as error:
        reason = "MalformedAnswer" if "Parser" in type(error).__name__ else "Unreachable"
        raise ReadError(reason, f"{what}: {type(error).__name__}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError("MalformedAnswer", f"{what} answered something unexpected ({type(error).__name__})") from None


def session_policy(actions: Sequence[str], resources: Sequence[str]) -> str:
    """Return the session policy that allows these actions on these resources and nothing else.

    Errors: CallFailed where it would be longer than STS takes: the plan has to be split, never widened.
    """
    if not actions or not resources:
        raise CallFailed("SessionPolicyEmpty", definite=True)
    text = _allowing(actions, resources)
    if len(text) > POLICY_LIMIT:
        raise CallFailed("SessionPolicyTooLong", definite=True)
    return text


def _allowing(actions: Sequence[str], resources: Sequence[str]) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))


@functools.cache
def _readable(service: str, listed: int) -> tuple[str, ...]:
    """Return what the reading session of a service may do: as many services share one as its policy has room for.

    Shape: `listed` is how many reads are listed: it is asked anew when more are.
    """
    shares: list[tuple[set[str], set[str]]] = []
    for known in sorted({name for name, _ in READS}):
        own = {p for (name, _), read in READS.items() if name == known for p in read.permissions}
        if not shares or not _fits(shares[-1][1] | own):
            shares.append((set(), set()))
        services, may = shares[-1]
        services.add(known)
        may |= own
    return next((tuple(sorted(may)) for services, may in shares if service in services), ())


def _fits(actions: Collection[str]) -> bool:
    return len(_allowing(sorted(actions), ("*",))) <= POLICY_LIMIT


def _not_sent(why: str) -> CallFailed:
    """Return that a call was surely not sent, for a reason that passes by itself."""
    log.warning("a call is not sent for now: %s", redact(why))
    return CallFailed("NotSentInTime", definite=True)


def _session_name(run: str) -> str:
    """Return a run's name as STS takes it: at most 64 of its characters."""
    return re.sub(r"[^\w+=,.@-]", "-", run)[:64]


def _ask(client: Any, operation: str, arguments: Mapping[str, Any], listed: ListedRead) -> Mapping[str, Any]:
    if listed.items is None or not client.can_paginate(operation):
        answer: Mapping[str, Any] = getattr(client, operation)(**arguments)
        return answer
    items: list[Any] = []
    for page in client.get_paginator(operation).paginate(**arguments):
        items.extend(page.get(listed.items, ()))
        if len(items) >= listed.bound:
            break
    return {listed.items: items[: listed.bound]}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "Unknown"))


def _read_error(error: ClientError, what: str, listed: ListedRead) -> ReadError:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in listed.missing:
        return NotFound(f"{what}: there is none ({code})", code=code)
    if listed.unsigned and status == 403:
        return ReadError("PublicAccessDenied", f"{what}: anybody who asks is refused", code="AccessDenied")
    if code in _DENIED:
        if error.operation_name == "AssumeRole":
            message = f"the operator may not assume the grant's role ({code}): look at the role's trust policy"
            return ReadError("AccessDenied", message, code=code)
        return ReadError("AccessDenied", f"{what} is denied ({code}): the grant's read role lacks it", code=code)
    if code in _THROTTLED:
        return ReadError("Throttled", f"{what} is throttled", code=code)
    if status >= 500:
        return ReadError("Unreachable", f"{what}: AWS answers {status}", code=code)
    return ReadError("InvalidRequest", f"{what} is refused ({code})", code=code)


def _with_results(value: Any, results: Mapping[int, Any]) -> Any:
    """Return arguments with each `{fromResult: {call, path}}` replaced. Errors: CallFailed where there is none."""
    if isinstance(value, Mapping):
        source = value.get("fromResult")
        if source is not None and set(value) == {"fromResult"}:
            found = (results.get(source["call"]) or {}).get(source["path"])
            if found is None:
                raise CallFailed("EarlierResultMissing", definite=True)
            return found
        return {k: _with_results(v, results) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_with_results(v, results) for v in value]
    return value


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) and part.isdigit() else value[part]
    return value


def _kept(answer: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any] | None:
    """Return the kept paths of an answer, by path; what the answer lacks is left out."""
    kept = {}
    for path in paths:
        try:
            kept[path] = plain(_at(answer, path))
        except (KeyError, IndexError, TypeError):
            continue
    return kept or None
