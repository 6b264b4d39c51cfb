"""What every operator of a test is forked with: all that it imports, and what botocore knows of the services."""

import kopf
import kubernetes.aio.client

import incident_operator.__main__
import incident_operator.actions.catalogue
import incident_operator.runtime.app
from incident_operator.adapters.aws import prepare

__all__ = ["incident_operator", "kopf", "kubernetes"]

prepare()
