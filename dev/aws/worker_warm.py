"""What every worker is forked with: what nearly every handler imports, and the descriptions of the shop's services.

A cold start takes a tenth of the processor's time so, and there are hundreds of them where a function times out.
"""

from . import worker_boot  # noqa: F401  first: it measures the bare interpreter

import boto3  # isort: skip

boto3.setup_default_session()
_loader = boto3.DEFAULT_SESSION._session.get_component("data_loader")
for _service in ("dynamodb", "s3", "ses"):
    _loader.load_service_model(_service, "service-2")
    _loader.load_service_model(_service, "endpoint-rule-set-1")
