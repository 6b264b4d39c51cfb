"""Services that behave where moto only keeps records: one file each, or a few that belong together."""

from .apigateway import ApiGateway
from .balancing import Balancing
from .elasticache import ElastiCache
from .instances import Instances
from .mail import Mail
from .rds import Rds
from .scaling import Scaling
from .service import Forward, Handler, Needs, Parts, Service
from .ssm import Commands
from .storage import Storage
from .waf import Waf

__all__ = ["Forward", "Handler", "Needs", "Parts", "Service", "all_of"]

#: Add yours here.
_KINDS: tuple[type[Service], ...] = (
    Instances,
    Balancing,
    Scaling,
    Rds,
    Storage,
    ElastiCache,
    ApiGateway,
    Commands,
    Waf,
    Mail,
)


def all_of(parts: Parts) -> tuple[Service, ...]:
    """Return every service."""
    return tuple(kind(parts) for kind in _KINDS)
