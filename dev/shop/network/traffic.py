"""Web servers that reach the cache over the network: a real connection for each request, through what the rules say."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from botocore.exceptions import BotoCoreError, ClientError

from dev import databases
from dev.aws.gate import Gates, Place
from dev.loopback import address

from ..shop import Shop
from .place import FAILED, FAILING, NAMESPACE, REQUESTS, Tiers, is_open, listen

#: The way asks AWS for the rules of each connection: so many that a busy machine keeps up.
_PER_SECOND = 4
#: Whom the rules do not let through is turned away at once: what takes time is a busy machine.
_TIMEOUT_SECONDS = 5.0


@dataclass(kw_only=True)
class Traffic:
    """Requests, one after another. Shape: `failing` has the share of each second that failed, the newest last."""

    shop: Shop
    endpoint: Place
    failing: deque[float] = field(default_factory=lambda: deque(maxlen=600))
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask, and publish once a second, until stopped."""
        client = self.shop.client("cloudwatch", "network-metrics")
        while not self._stopped.is_set():
            asked = [self._ask() for _ in range(_PER_SECOND)]
            failed = asked.count(False)
            self.failing.append(failed / len(asked))
            data = [
                {"MetricName": FAILING, "Value": failed / len(asked), "Unit": "None"},
                {"MetricName": REQUESTS, "Value": len(asked), "Unit": "Count"},
                {"MetricName": FAILED, "Value": failed, "Unit": "Count"},
            ]
            # What can't be published is missing, and CloudWatch shows that it is.
            with contextlib.suppress(ClientError, BotoCoreError):
                client.put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def _ask(self) -> bool:
        self._stopped.wait(1 / _PER_SECOND)
        with contextlib.suppress(OSError), socket.create_connection(self.endpoint, _TIMEOUT_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
        return False

    def wait_share(self, share: float, *, seconds: float = 60) -> bool:
        """Wait for two seconds in a row in which just this share failed."""
        limit = monotonic() + seconds
        self.failing.clear()
        while monotonic() < limit:
            newest = list(self.failing)[-2:]
            if newest == [share, share]:
                return True
            self._stopped.wait(0.2)
        return False

    def stop(self) -> None:
        """End."""
        self._stopped.set()


@contextlib.contextmanager
def traffic(shop: Shop, tiers: Tiers) -> Iterator[Traffic]:
    """Let web servers use the cache; whoever the rules do not let through gets no answer."""
    with contextlib.ExitStack() as stacked:
        server = stacked.enter_context(databases.valkey(address()))
        listen(shop, tiers, server.host, server.port)
        gates = Gates()
        stacked.callback(gates.close)
        gate = gates.open(address(), lambda: (server.host, server.port) if is_open(shop, tiers) else None)
        stacked.callback(gates.shut, gate)
        made = Traffic(shop=shop, endpoint=gate.place)
        thread = threading.Thread(target=made.run, name="web servers", daemon=True)
        thread.start()
        stacked.callback(thread.join)
        stacked.callback(made.stop)
        yield made
