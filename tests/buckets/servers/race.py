"""Puts of one key at the same time by Amazon's own client: how many are told to have made the object, in each round.

Arguments: the server's endpoint, a bucket, puts, rounds. Prints a list of numbers.
"""

import json
import sys
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def main():
    endpoint, bucket, puts, rounds = sys.argv[1:]
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=int(puts), s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": "framehaul", "aws_secret_access_key": "canary", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, config=config, **keys)

    def put(begin, key, content, told):
        begin.wait()
        try:
            client.put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
            told.append("made")
        except ClientError as refusal:
            told.append(refusal.response["Error"]["Code"])

    winners = []
    for number in range(int(rounds)):
        begin, told = threading.Barrier(int(puts)), []
        contents = (bytes([i]) * 65536 for i in range(int(puts)))
        threads = [threading.Thread(target=put, args=(begin, f"boto3/{number}", content, told)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(told) <= {"made", "PreconditionFailed"} and len(told) == int(puts), told
        winners.append(told.count("made"))
    print(json.dumps(winners))


main()
