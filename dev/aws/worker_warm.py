"""What every worker is forked with: what nearly every handler imports, and what its clients are made of.

A cold start takes a fraction of the processor's time so, and there are hundreds where a function times out.
"""

from . import worker_boot  # noqa: F401  first: it measures the bare interpreter

import gc  # isort: skip

import boto3  # isort: skip

for _service in ("dynamodb", "s3", "ses"):
    # Made once and dropped: what botocore reads for it stays with the default session, which is a handler's too.
    boto3.client(_service, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106

gc.collect()
gc.freeze()  # what is shared with the workers is not written to by their collections
