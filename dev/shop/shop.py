"""Where the shop is and what its parts are called: all names are here, and all can be others."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from dev.controlplane.certificates import write_private

DEFAULT_ACCOUNT = "123456789012"
DEFAULT_REGION = "us-east-1"
#: One attempt: a client that repeats a request hides what users feel.
_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=30)

#: Shared, since it keeps the services' models; clients are made one at a time, then used by any thread.
_SESSION = boto3.session.Session()
_MAKING = threading.Lock()


class ShopError(RuntimeError):
    """The shop is not there or not as expected; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An access key of one identity."""

    access_key_id: str
    secret_access_key: str


def admin_key(account: str) -> Key:
    """Return the key that the simulator takes for an account's root."""
    return Key(access_key_id=f"SIMADMIN{account}", secret_access_key="simulated")  # noqa: S106 (opens nothing real)


@dataclass(kw_only=True)
class Shop:
    """One birthday service in one account.

    Shape: `role_path` begins and ends with a slash; `keys` has admin and, once seeded, operator, deployer, sre and
    storefront.
    """

    account: str = DEFAULT_ACCOUNT
    region: str = DEFAULT_REGION
    endpoint: str
    function: str = "AmazonQBirthdayDemoLambda"
    alias: str = "LIVE"
    table: str = "birthday-users"
    bucket: str = ""
    role: str = "lambda-execution-role"
    role_path: str = "/"
    policy: str = "BirthdayServiceAccess"
    alarm: str = "AmazonQBirthdayDemoLambda-errors"
    sender: str = "birthdays@shopsmart.example"
    keys: Mapping[str, Key] = field(default_factory=dict)
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fill in what depends on the account. Bucket names are global: each account has its own."""
        if not self.bucket:
            self.bucket = "birthday-email-templates" + ("" if self.account == DEFAULT_ACCOUNT else f"-{self.account}")
        self.keys = {"admin": admin_key(self.account), **self.keys}

    # --- ARNs -------------------------------------------------------------------------------------------------

    @property
    def function_arn(self) -> str:
        """The function, without a qualifier."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function}"

    @property
    def role_arn(self) -> str:
        """The function's execution role."""
        return f"arn:aws:iam::{self.account}:role{self.role_path}{self.role}"

    @property
    def policy_arn(self) -> str:
        """The managed policy of the role."""
        return f"arn:aws:iam::{self.account}:policy/{self.policy}"

    @property
    def table_arn(self) -> str:
        """The users' table."""
        return f"arn:aws:dynamodb:{self.region}:{self.account}:table/{self.table}"

    @property
    def objects_arn(self) -> str:
        """Every template."""
        return f"arn:aws:s3:::{self.bucket}/*"

    def user_arn(self, name: str) -> str:
        """Return the ARN of an IAM user of the account."""
        return f"arn:aws:iam::{self.account}:user/{name}"

    # --- clients ----------------------------------------------------------------------------------------------

    def client(self, service: str, who: str = "admin") -> Any:
        """Return a client for one identity's requests, made once. Errors: ShopError for an identity without a key."""
        if who not in self.keys:
            raise ShopError(f"the shop has no key of {who}: seed it first (python -m dev.shop seed)")
        key = self.keys[who]
        with _MAKING:
            if (service, who) not in self._clients:
                self._clients[service, who] = self._client(service, key.access_key_id, key.secret_access_key)
            return self._clients[service, who]

    def client_of_role(self, service: str, role: str, session: str) -> Any:
        """Return a client for the requests of a new session of a role, assumed by the account's root."""
        arn = f"arn:aws:iam::{self.account}:role/{role}"
        given = self.client("sts").assume_role(RoleArn=arn, RoleSessionName=session)["Credentials"]
        with _MAKING:
            return self._client(service, given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])

    def _client(self, service: str, key: str, secret: str, token: str | None = None) -> Any:
        return _SESSION.client(  # type: ignore[call-overload]
            service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=_CONFIG,
        )

    # --- what users see ---------------------------------------------------------------------------------------

    def invoke(self, event: Mapping[str, Any], *, qualifier: str | None = None) -> "Answer":
        """Invoke what serves, as the storefront does. Errors: botocore's, where AWS can't be reached."""
        client = self.client("lambda", "storefront")
        payload = json.dumps(dict(event)).encode()
        try:
            given = client.invoke(FunctionName=self.function, Qualifier=qualifier or self.alias, Payload=payload)
        except client.exceptions.TooManyRequestsException as error:
            return Answer(ok=False, error=str(error.response.get("Reason") or "TooManyRequestsException"))
        body = json.loads(given["Payload"].read() or b"null")
        if "FunctionError" in given:
            said = body if isinstance(body, dict) else {}
            kind, message = said.get("errorType", ""), said.get("errorMessage", "")
            return Answer(ok=False, error=f"{kind}: {message}", body=body)
        return Answer(ok=True, body=body)

    # --- the file ---------------------------------------------------------------------------------------------

    def with_keys(self, keys: Mapping[str, Key]) -> "Shop":
        """Return the shop with these keys added."""
        return replace(self, keys={**self.keys, **keys})

    def save(self, state_dir: Path) -> Path:
        """Write `shop.json`, which holds keys and so is readable by nobody else; return where it is."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name != "keys"}
        named |= {name: asdict(key) for name, key in self.keys.items()}
        state_dir.mkdir(parents=True, exist_ok=True)
        file = state_dir / "shop.json"
        write_private(file, json.dumps(named, indent=2) + "\n")
        return file


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an invocation came to. Shape: `error` is empty exactly when `ok`."""

    ok: bool
    error: str = ""
    body: Any = None


def load(state_dir: Path, *, endpoint: str | None = None) -> Shop:
    """Return the shop that was seeded. Errors: ShopError where none was."""
    file = state_dir / "shop.json"
    if not file.exists():
        raise ShopError(f"there is no shop in {state_dir}: `make up` makes one")
    stored = json.loads(file.read_text())
    keys = {name: Key(**value) for name, value in stored.items() if isinstance(value, dict)}
    named = {name: value for name, value in stored.items() if not isinstance(value, dict)}
    if endpoint:
        named["endpoint"] = endpoint
    return Shop(**named, keys=keys)
