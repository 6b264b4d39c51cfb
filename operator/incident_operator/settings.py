"""How this process runs; made once from the command line. Waits are scaled here and nowhere else (decision 1)."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from .core.schedule import Timing

OPERATOR_NAMESPACE = "incident-system"
LEASE_NAME = "incident-operator"
#: What a call may take in all, in its own timeouts: its role session, its fresh guards, its connection, itself.
CALL_TIMEOUTS = 4
#: Real: what the API server may take to be told of its answer.
TOLD_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Shape: `namespaces` empty means all. Units: durations are real, but what `scaled` returns."""

    identity: str
    namespaces: tuple[str, ...] = ()
    operator_namespace: str = OPERATOR_NAMESPACE
    time_scale: float = 1.0
    lease_duration: timedelta = timedelta(seconds=15)
    call_timeout: timedelta = timedelta(seconds=10)
    #: What one observation of one action may take.
    observe_timeout: timedelta = timedelta(seconds=60)
    #: How soon to try again what waits for the proof that admission is in force.
    admission_retry: timedelta = timedelta(seconds=10)
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    workers: int = 16
    #: Channels may lead to this machine itself; in a cluster that would be the operator's own pod.
    loopback_channels: bool = False
    effect_threads: int = 24

    @property
    def timing(self) -> Timing:
        """The waits as decisions see them."""
        return Timing(scale=self.time_scale, lease_duration=self.lease_duration)

    def call_limit(self, timeout: timedelta) -> timedelta:
        """Return after which time nobody waits any more for a call of that timeout."""
        return timeout * CALL_TIMEOUTS

    @property
    def drain(self) -> timedelta:
        """How long a process that is told to stop waits for a call in flight and for its line in the journal.

        The Deployment's terminationGracePeriodSeconds is longer; a test compares them.
        """
        return self.call_limit(self.call_timeout) + TOLD_WITHIN

    def scaled(self, wait: timedelta) -> timedelta:
        """Return a wait as this deployment makes it."""
        return self.timing.scaled(wait)

    @property
    def lease_name(self) -> str:
        """The Lease of this set of namespaces. Source: decision 25."""
        if not self.namespaces:
            return LEASE_NAME
        names = ",".join(sorted(self.namespaces))
        return f"{LEASE_NAME}-{hashlib.sha256(names.encode()).hexdigest()[:10]}"
