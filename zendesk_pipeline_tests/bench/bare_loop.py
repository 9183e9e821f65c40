"""A measured process: the least that can be done. Get each page, put its bytes; no parsing, no threads, no promise.

Arguments: a file with a URL in each line, and the prefix to write below.
"""

import os
import sys
from pathlib import Path

import boto3
import requests

from zendesk_pipeline_tests.bench import counting


def main(urls: list[str], prefix: str) -> None:
    session, s3, bucket = requests.Session(), boto3.client("s3"), os.environ["S3_BUCKET"]
    session.auth = f"{os.environ['ZENDESK_EMAIL']}/token", os.environ["ZENDESK_API_TOKEN"]
    for number, url in enumerate(urls):
        page = session.get(url, timeout=60)
        page.raise_for_status()
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{number:05d}.json", Body=page.content)


if __name__ == "__main__":
    counting.start()
    main(Path(sys.argv[1]).read_text().split(), sys.argv[2])
