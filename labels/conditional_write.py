"""Whether an object store keeps the condition of a write, which no client of ours can ask it.

deltalake writes a version of the log on the condition that there is none of that number, but it
lists the log before it does: a store that ignores the condition shows only when two writers race.
So one object is written twice by plain HTTP, signed as AWS Signature Version 4 has it
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import urllib.error
import urllib.request
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit

_REFUSALS = (409, 412)


def second_write_is_refused(endpoint: str, region: str, key: str, seconds: float) -> bool | None:
    """Writes an object that must not exist, twice; the second write must fail.

    Args:
      endpoint: URL of the store.
      region: What its region is called.
      key: Bucket and key of an object that is not there; it is, afterwards.
      seconds: How long to wait for an answer.

    Returns:
      Whether the store kept the condition; None if it was not to be found out: there are no keys
      in the environment, or the store would not have the first write.
    """
    account, secret = (
        os.environ.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    if not account or not secret:
        return None
    answers = []
    for _ in range(2):
        request = _put(endpoint, region, key, account, secret)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                answers.append(answer.status)
        except urllib.error.HTTPError as error:
            answers.append(error.code)
    if answers[0] >= 300:
        return None
    return answers[1] in _REFUSALS


def _put(endpoint: str, region: str, key: str, account: str, secret: str) -> urllib.request.Request:
    """A request to write an empty object on the condition that it does not exist."""
    moment = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    path = f"{urlsplit(endpoint).path.rstrip('/')}/{quote(key, safe='/-_.~')}"
    headers = {
        "host": urlsplit(endpoint).netloc,
        "if-none-match": "*",
        "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-amz-date": moment,
    }
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = token
    names = ";".join(headers)
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["PUT", path, "", *lines, "", names, headers["x-amz-content-sha256"]])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signing_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={account}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    root = endpoint.removesuffix(urlsplit(endpoint).path)
    return urllib.request.Request(root + path, b"", headers, method="PUT")
