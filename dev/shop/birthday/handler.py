"""Send a birthday mail: read the user, read the template, mark the user as greeted, send.

Event: `{"userId": "u-1"}`; `{"test": "true"}` does all of it for the test user, but sends no mail.
Environment: USERS_TABLE, TEMPLATE_BUCKET, TEMPLATE_KEY, SENDER, and PAUSE_SECONDS, which the mail provider may ask for.
"""

import os
import time
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")
s3 = boto3.client("s3")
ses = boto3.client("ses")

TEST_USER = "u-test"


class UserNotFound(Exception):
    """Nobody has this id."""


def handle(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Greet one user and say so."""
    test = bool(event.get("test"))
    user_id = TEST_USER if test else event["userId"]
    user = read_user(user_id)
    template = read_template()
    mark_greeted(user_id)
    if not test:
        send(user["email"]["S"], template.replace("{name}", user["name"]["S"]))
    return {"greeted": user_id, "sent": not test}


def read_user(user_id: str) -> dict[str, Any]:
    """Return the user's item."""
    answer = dynamodb.get_item(TableName=os.environ["USERS_TABLE"], Key={"userId": {"S": user_id}})
    if "Item" not in answer:
        raise UserNotFound(user_id)
    return dict(answer["Item"])


def read_template() -> str:
    """Return the mail's text."""
    answer = s3.get_object(Bucket=os.environ["TEMPLATE_BUCKET"], Key=os.environ["TEMPLATE_KEY"])
    return str(answer["Body"].read(), "utf-8")


def mark_greeted(user_id: str) -> None:
    """Note the day, so that nobody is greeted twice by the next batch."""
    dynamodb.update_item(
        TableName=os.environ["USERS_TABLE"],
        Key={"userId": {"S": user_id}},
        UpdateExpression="SET lastGreeted = :day",
        ExpressionAttributeValues={":day": {"S": time.strftime("%Y-%m-%d", time.gmtime())}},
    )


def send(address: str, text: str) -> None:
    """Send the mail, no faster than the provider wants it."""
    time.sleep(float(os.environ.get("PAUSE_SECONDS", "0")))
    ses.send_email(
        Source=os.environ["SENDER"],
        Destination={"ToAddresses": [address]},
        Message={"Subject": {"Data": "Happy birthday!"}, "Body": {"Html": {"Data": text}}},
    )
