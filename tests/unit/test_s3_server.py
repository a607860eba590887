"""The tests' own S3 server does what tests of storages and of failures rely on."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from tests.support.s3_server import S3Server


def test_boto3_finds_the_server_and_a_bucket_of_the_tests_own(s3_server: S3Server, s3_bucket: str) -> None:
    client = boto3.client("s3")
    client.put_object(Bucket=s3_bucket, Key="a", Body=b"abc")
    assert s3_server.client.get_object(Bucket=s3_bucket, Key="a")["Body"].read() == b"abc"
    other = s3_server.create_bucket()
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=other, Key="a")


def test_a_frozen_server_accepts_requests_and_answers_none(s3_server: S3Server, s3_bucket: str) -> None:
    impatient = boto3.client("s3", config=Config(read_timeout=0.5, retries={"total_max_attempts": 1}))
    with s3_server.frozen(), pytest.raises(ReadTimeoutError):
        impatient.head_bucket(Bucket=s3_bucket)
    impatient.head_bucket(Bucket=s3_bucket)
