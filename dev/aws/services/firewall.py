"""What a web ACL does with a request: its rules in the order of priority, the first that decides counts.

Pure of moto: `waf.py` makes a `Firewall` of what moto keeps, and load balancers ask it (`forwarding.py`). A source is
the address of the connection; a header names it only where a statement says so. Rates are of real requests in real
time: they are not scaled, and nothing lags. Source: "Using rule statements in AWS WAF", "Rate-based rule statement".
"""

import ipaddress
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

#: For how long requests can be sampled, and from how many of a time range: the first.
SAMPLED_FOR = timedelta(hours=3)
SAMPLED = 5000
_REMEMBERED = 20_000
_WINDOW_SECONDS = 300
#: The statements that are evaluated. Any other is refused when it is written, not taken for one that never matches.
KNOWN = frozenset({"IPSetReferenceStatement", "RateBasedStatement", "AndStatement", "OrStatement", "NotStatement"})
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it comes in. Shape: `headers` in their order, names as sent."""

    source: str
    method: str
    uri: str
    headers: tuple[tuple[str, str], ...] = ()
    version: str = "HTTP/1.1"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A request that matched a rule, or none, and what became of it."""

    at: datetime
    request: Request
    action: str


@dataclass(kw_only=True)
class Memory:
    """What a web ACL remembers: requests by rule, for rates and for samples. It outlives the rules' changes."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    _seen: dict[tuple[str, str], deque[datetime]] = field(default_factory=lambda: defaultdict(deque))
    _samples: dict[str, deque[Sample]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=_REMEMBERED)))

    def rate(self, rule: str, key: str, at: datetime, window: timedelta) -> int:
        """Count a request under a rule's key; return how many there were within the window."""
        seen = self._seen[rule, key]
        seen.append(at)
        while seen[0] <= at - window:
            seen.popleft()
        return len(seen)

    def keys_over(self, rule: str, limit: int, at: datetime, window: timedelta) -> list[str]:
        """Return the keys that are over a rule's limit now."""
        with self.lock:
            return sorted(
                key
                for (name, key), seen in self._seen.items()
                if name == rule and sum(when > at - window for when in seen) > limit
            )

    def sample(self, metric: str, sample: Sample) -> None:
        """Remember a request under a rule's metric name, or under the web ACL's where its default action was taken."""
        self._samples[metric].append(sample)

    def samples(self, metric: str, start: datetime, end: datetime) -> list[Sample]:
        """Return what was remembered within [start, end], oldest first."""
        with self.lock:
            return [s for s in self._samples.get(metric, ()) if start <= s.at <= end]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule: its `statement` as written, `action` in capitals (`BLOCK`), and the name of its metric."""

    name: str
    metric: str
    action: str
    statement: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """A web ACL at work.

    Shape: `rules` in the order of priority; `sets` are the networks of each IP set by ARN; `count(metric, action)` is
    told of each rule that matched and of each request that none decided.
    """

    metric: str
    default: str
    rules: Sequence[Rule]
    sets: Mapping[str, Sequence[Network]]
    memory: Memory
    count: Callable[[str, str], None]

    def allows(self, request: Request, at: datetime) -> bool:
        """Decide about a request."""
        decided, metric = self.default, self.metric
        counted = []
        with self.memory.lock:
            for rule in self.rules:
                if not self._matches(rule, rule.statement, request, at):
                    continue
                if rule.action == "COUNT":
                    counted.append(rule.metric)
                    self.memory.sample(rule.metric, Sample(at=at, request=request, action="COUNT"))
                    continue
                decided, metric = rule.action, rule.metric
                break
            self.memory.sample(metric, Sample(at=at, request=request, action=decided))
        for name in counted:
            self.count(name, "COUNT")
        self.count(metric, decided)
        return decided == "ALLOW"

    def _matches(self, rule: Rule, statement: Mapping[str, Any], request: Request, at: datetime) -> bool:
        ((kind, said),) = statement.items()
        if kind == "IPSetReferenceStatement":
            networks = self.sets.get(said["ARN"], ())
            sources = sources_of(request, said.get("IPSetForwardedIPConfig"))
            if sources is None:
                return bool(said["IPSetForwardedIPConfig"]["FallbackBehavior"] == "MATCH")
            return any(s.version == n.version and s in n for s in sources for n in networks)
        if kind == "RateBasedStatement":
            scope = said.get("ScopeDownStatement")
            if scope and not self._matches(rule, scope, request, at):
                return False
            sources = sources_of(request, said.get("ForwardedIPConfig"))
            if sources is None:
                return bool(said["ForwardedIPConfig"]["FallbackBehavior"] == "MATCH")
            if not sources:
                return False
            return self.memory.rate(rule.name, str(sources[0]), at, window_of(said)) > int(said["Limit"])
        if kind == "NotStatement":
            return not self._matches(rule, said["Statement"], request, at)
        found = [self._matches(rule, each, request, at) for each in said["Statements"]]
        return all(found) if kind == "AndStatement" else any(found)


def window_of(rate: Mapping[str, Any]) -> timedelta:
    """Return the time over which a rate-based statement counts."""
    return timedelta(seconds=int(rate.get("EvaluationWindowSec") or _WINDOW_SECONDS))


def sources_of(request: Request, forwarded: Mapping[str, Any] | None) -> list[Address] | None:
    """Return where a request comes from; by a header only where that is configured.

    Shape: None where the header has no address in the asked position: the statement says what that means. A request
    without the header matches nothing, so the list is empty then.
    """
    if not forwarded:
        return [ipaddress.ip_address(request.source)]
    name = forwarded["HeaderName"].lower()
    said = [part.strip() for key, value in request.headers if key.lower() == name for part in value.split(",")]
    if not said:
        return []
    chosen = {"FIRST": said[:1], "LAST": said[-1:]}.get(forwarded.get("Position", "FIRST"), said[-10:])
    try:
        return [ipaddress.ip_address(part) for part in chosen]
    except ValueError:
        return None


def statements(statement: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return a statement and all within it, by kind."""
    found = []
    for kind, said in statement.items():
        found.append((kind, said))
        inner = [said.get("ScopeDownStatement"), said.get("Statement"), *(said.get("Statements") or ())]
        for each in inner:
            found += statements(each) if each else []
    return found
