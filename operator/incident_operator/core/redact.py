"""What must never be stored or shown: credentials, in any text that reaches status, events, logs or reviews.

Messages are built from known tokens in the first place (decision 19); this is the second lock, at the few doors
through which text leaves (invariant I6). It errs on the side of hiding, but knows the look-alikes people need: ARNs,
request ids, digests, and the *names* of secrets stay. Redacting twice is redacting once.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

MARK = "<redacted>"

_NAMES = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credentials?|api[_-]?key|private[_-]?key|secret[_-]?key"
    r"|access[_-]?key|secret[_-]?string|secret[_-]?binary|cookie|signature)"
)
#: A quoted value to its end, or to the text's: messages are cut. Unambiguous, so that no text takes long.
_VALUE = (
    r"(?:(?P<double>\"(?:[^\"\\]|\\[\s\S])*\\?(?:\"|\Z))|(?P<single>'(?:[^'\\]|\\[\s\S])*\\?(?:'|\Z))"
    r"|\\+[\"'][^\"'\\]*|[^\s,;&\"'\\})\]]+)"
)

#: A whole key file; a truncated one too, since messages are cut.
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
#: The rest of the line: SigV4 has its credential and signature after commas.
_AUTHORIZATION = re.compile(r"(authorization\\*[\"']?\s*[:=]\s*\\*[\"']?)[^\"'\\\r\n]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{12,}", re.IGNORECASE)
#: "Basic" is a word too: what follows must look like Base64 and like nothing people write.
_BASIC = re.compile(r"\b([Bb]asic\s+)(?=[A-Za-z0-9+/]*(?:[a-z][A-Z]|[0-9=]))[A-Za-z0-9+/]{8,}={0,2}")
_IN_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]{0,20}://[^\s/:@\"']*:)[^\s/\"']+@", re.IGNORECASE)
#: `name=value` anywhere; `name: value` not inside an ARN, whose `:secret:` comes before a name.
_NAMED = re.compile(
    rf"(?P<key>(?<![\w.-])[\w.-]{{0,64}}?{_NAMES}\\*[\"']?\s*=\s*"
    rf"|(?<![\w:.-])[\w.-]{{0,64}}?{_NAMES}\\*[\"']?\s*:\s*){_VALUE}",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"  # AWS access key ids
    r"|\b(?:IQoJ|FwoG|FQoG|AQoD)[A-Za-z0-9+/=_%-]{60,}"  # AWS session tokens
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # JSON web tokens
    r"|\b(?:xox[a-z]-|gh[pousr]_|github_pat_|glpat-)[\w-]{10,}"  # Slack, GitHub, GitLab
    r"|(?<=hooks\.slack\.com/services/)[\w/]+"  # a Slack webhook is its own credential
)
#: AWS secret access keys have no mark of their own: 40 Base64 characters, standing alone, too mixed to be a word,
#: a path or a digest in hex.
_SECRET_ACCESS_KEY = re.compile(
    r"(?<![\w/+:.=-])(?=[A-Za-z0-9/+]{40}(?![\w/+:=-]))(?=[a-z0-9/+]*[A-Z])(?=[A-Z0-9/+]*[a-z])(?=[A-Za-z/+]*[0-9])"
    r"[A-Za-z0-9/+]{40}"
)
_KEY = re.compile(rf"{_NAMES}$", re.IGNORECASE)


def _named(found: re.Match[str]) -> str:
    quote = '"' if found["double"] else "'" if found["single"] else ""
    return f"{found['key']}{quote}{MARK}{quote}"


#: In this order. Nearly every text has none of the (lower-case) hints, and then no pattern is tried: this runs on
#: every status write.
_RULES: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (("private key",), _PRIVATE_KEY, MARK),
    (("authorization",), _AUTHORIZATION, rf"\1{MARK}"),
    (("bearer",), _BEARER, rf"\1{MARK}"),
    (("basic",), _BASIC, rf"\1{MARK}"),
    (("://",), _IN_URL, rf"\g<before>{MARK}@"),
    (
        (
            *("passw", "passp", "pwd", "secret", "token", "credential", "cookie", "signature"),
            *(f"{what}{join}key" for what in ("api", "private", "access") for join in ("", "_", "-")),
        ),
        _NAMED,
        _named,
    ),
    (
        (
            *("akia", "asia", "abia", "acca", "iqoj", "fwog", "fqog", "aqod", "eyj", "xox", "hooks.slack", "glpat-"),
            *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        ),
        _TOKENS,
        MARK,
    ),
)


def redact(text: str) -> str:
    """Return the text with every credential in it replaced by a mark.

    >>> redact("postgres://shop:hunter2@db:5432/orders refused")
    'postgres://shop:<redacted>@db:5432/orders refused'
    >>> redact("arn:aws:secretsmanager:us-east-1:123456789012:secret:shop/db is missing")
    'arn:aws:secretsmanager:us-east-1:123456789012:secret:shop/db is missing'
    """
    lower = text.lower()
    for hints, pattern, replacement in _RULES:
        if any(hint in lower for hint in hints):
            text = pattern.sub(replacement, text)
    return _SECRET_ACCESS_KEY.sub(MARK, text) if len(text) >= 40 else text


def redact_json(value: Any) -> Any:
    """Return a JSON value with every credential in its texts replaced, and every text whose key names a secret.

    Shape: the same as given. Numbers stay under any key: `{"ExpiredToken": 3}` counts errors. A key says what its
    last word says: `password` and `authToken` hide, `secretName` and `secretKeyRef` show.
    """
    texts: list[str] = []
    if not _collect(value, texts):
        together = "\n".join(texts)
        if redact(together) == together:
            return value
    return _redacted(value)


def _collect(value: Any, texts: list[str]) -> bool:
    """Gather the texts of a JSON value; True where one stands under a key that names a secret."""
    if isinstance(value, str):
        texts.append(value)
        return False
    if isinstance(value, Mapping):
        named = [_collect(v, texts) or (isinstance(v, str) and _names_a_secret(str(k))) for k, v in value.items()]
        return any(named)
    if isinstance(value, list | tuple):
        return any([_collect(v, texts) for v in value])
    return False


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            k: MARK if isinstance(v, str) and v and _names_a_secret(str(k)) else _redacted(v) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_redacted(v) for v in value)
    return value


@lru_cache(maxsize=2048)
def _names_a_secret(key: str) -> bool:
    return _KEY.search(key) is not None


_RANDOM_LENGTH = 16
_RUNS = re.compile(r"[a-z]+|[A-Z]+|[0-9]+")


def looks_random(token: str) -> bool:
    """Tell whether a part of a token changes between small letters, capitals and digits as only a made-up one does.

    What is read from other systems and kept because it is a token could be a password: of those no rule of a name or
    a mark is left that would tell. Digests in hex and names in camelCase are none.

    >>> [looks_random(t) for t in ("x7Kp2mQv9LsT4hRw8ZcN3bYd", "AmazonQBirthdayDemoLambdaV2", "idle.in.transaction")]
    [True, False, False]
    """
    for part in re.split(r"[.:]", token):
        plain = re.sub(r"[^A-Za-z0-9]", "", part)
        if len(plain) < _RANDOM_LENGTH:
            continue
        runs = _RUNS.findall(plain)
        kinds = {"a" if run.islower() else "A" if run.isupper() else "1" for run in runs}
        if len(kinds) == 3 and len(runs) >= 0.4 * len(plain):
            return True
    return False


def is_clean(value: Any) -> bool:
    """Tell whether a JSON value has no credential in it."""
    return bool(redact_json(value) == value)
