"""The document's own commands: bash and the AWS CLI, as an engineer on call would type them.

The AWS CLI has an environment of its own, since it pins another botocore than ours, and is only ever reached through
a wrapper that names the simulator: version 1 ignores AWS_ENDPOINT_URL for some services and would call real AWS.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from dev.controlplane.build import cache_dir
from dev.loopback import ROOT
from dev.processes import file_lock, inherited
from dev.shop.shop import Shop
from dev.stack import Stack
from incident_operator.adapters.clock import Clock

from .place import Say

#: The document's Lambda section, steps 1 to 3: what it reads to find the cause. Left out are steps 4 and 5, which
#: change something. One correction: it cuts the role's name at the second slash, which a role with a path breaks.
SCRIPT = """\
set -euo pipefail
aws lambda get-function --function-name "$FUNCTION"
aws logs filter-log-events --log-group-name "/aws/lambda/$FUNCTION" --start-time "$START" --filter-pattern "ERROR"
ROLE_ARN=$(aws lambda get-function --function-name "$FUNCTION" --query 'Configuration.Role' --output text)
ROLE_NAME=${ROLE_ARN##*/}
aws iam list-attached-role-policies --role-name "$ROLE_NAME"
aws iam list-role-policies --role-name "$ROLE_NAME"
aws iam get-role --role-name "$ROLE_NAME" --query 'Role.AssumeRolePolicyDocument'
aws dynamodb describe-table --table-name "$TABLE"
aws s3 ls "s3://$BUCKET/"
aws sts get-caller-identity
"""
#: What the script must have asked, each at least once.
ASKED = frozenset(
    {
        "GetFunction",
        "FilterLogEvents",
        "ListAttachedRolePolicies",
        "ListRolePolicies",
        "GetRole",
        "DescribeTable",
        "ListObjectsV2",
        "GetCallerIdentity",
    }
)


class BaselineError(RuntimeError):
    """What we compare with can't be run; the message says why."""


def command_line(say: Say) -> Path:
    """Return the AWS CLI of the extra `baseline`, installed once into the user's cache. Errors: BaselineError."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    # Compiled, as any package manager leaves it: else each command would compile botocore anew, to our advantage.
    wanted = ("--compile-bytecode", *extras["baseline"])
    venv = cache_dir() / f"awscli-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
    program = venv / "bin/aws"
    with file_lock(venv.with_name(f"{venv.name}.lock")):
        if not program.exists():
            say("installing the AWS CLI into the user's cache, for the comparison (once)")
            uv = str(Path(sys.executable).with_name("uv"))
            _install(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv))
            _install(uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), *wanted)
    return program


def _install(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BaselineError(f"{error.filename} is not installed: run `make setup`") from error
    if done.returncode:
        raise BaselineError(f"the AWS CLI could not be installed:\n{done.stderr.strip()[-800:]}")


def write_wrapper(folder: Path, program: Path, endpoint: str) -> Path:
    """Write an `aws` that always names the simulator; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / "aws"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(program))} --endpoint-url {shlex.quote(endpoint)} "$@"\n')
    wrapper.chmod(0o700)
    return wrapper


def run_document(stack: Stack, shop: Shop, wrapper: Path) -> None:
    """Run the document's commands, one after another. Errors: BaselineError with what the failing one said."""
    start = int((Clock().now().timestamp() - 600) * 1000)
    env = {
        **inherited(),
        **stack.aws_env("admin"),
        "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
        "AWS_PAGER": "",
        "FUNCTION": shop.function,
        "TABLE": shop.table,
        "BUCKET": shop.bucket,
        "START": str(start),
    }
    done = subprocess.run(["bash", "-c", SCRIPT], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BaselineError(f"the document's commands failed:\n{done.stderr.strip()[-800:]}")
