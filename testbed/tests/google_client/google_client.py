"""The official Python client of Cloud Storage against the test bed's server: what it does is what its users rely on.

Arguments: the server's endpoint, a bucket, a service account's key file. The environment names the metadata server.
Ends with one line of JSON when all is as it should be, with a traceback otherwise.
"""

import io
import json
import random
import sys
import urllib.request

import google.auth
from google.api_core import exceptions
from google.cloud import storage

CHUNK = 256 * 1024


def refused(error, call):
    """Makes a call that must fail."""
    try:
        call()
    except error as refusal:
        return refusal
    raise AssertionError(f"no {error.__name__}")


def main():
    endpoint, bucket_name, key_file = sys.argv[1:]
    options = {"api_endpoint": endpoint}
    client = storage.Client.from_service_account_json(key_file, client_options=options)
    bucket = client.bucket(bucket_name)
    assert bucket.exists()
    assert not client.bucket("elsewhere").exists()

    # Upload, and what is known of the object.
    blob = bucket.blob("größe/one.jpg")
    blob.metadata = {"camera": "gate-3"}
    blob.upload_from_string(b"the first content", content_type="image/jpeg", if_generation_match=0, checksum="crc32c")
    seen = bucket.get_blob(blob.name)
    assert (seen.size, seen.content_type, seen.metadata) == (17, "image/jpeg", {"camera": "gate-3"}), seen
    assert (seen.generation, seen.crc32c) == (blob.generation, blob.crc32c)

    # Nothing is overwritten, nor stored with a wrong checksum.
    refused(exceptions.PreconditionFailed, lambda: bucket.blob(blob.name).upload_from_string(b"x", if_generation_match=0))
    damaged = bucket.blob("damaged")
    damaged.crc32c = "AAAAAA=="
    refused(exceptions.BadRequest, lambda: damaged.upload_from_string(b"other content", checksum=None))
    assert not damaged.exists()

    # Pages, folders.
    for i in range(25):
        bucket.blob(f"pages/{i % 2}/{i:02}").upload_from_string(b"x")
    pages = [[found.name for found in page] for page in client.list_blobs(bucket, prefix="pages/", page_size=10).pages]
    names = [name for page in pages for name in page]
    assert names == sorted(f"pages/{i % 2}/{i:02}" for i in range(25)), names
    folders = client.list_blobs(bucket, prefix="pages/", delimiter="/")
    assert list(folders) == [] and folders.prefixes == {"pages/0/", "pages/1/"}, folders.prefixes

    # A resumable upload in five pieces, the last of them short.
    content = random.Random(1).randbytes(4 * CHUNK + 123)
    large = bucket.blob("large.bin", chunk_size=CHUNK)
    large.upload_from_file(io.BytesIO(content), if_generation_match=0, checksum="crc32c")
    again = bucket.blob("large.bin", chunk_size=CHUNK)
    refused(exceptions.PreconditionFailed, lambda: again.upload_from_file(io.BytesIO(content), if_generation_match=0))

    # Download whole, in ranges, and in pieces, with the checksum looked at.
    assert bucket.blob("large.bin").download_as_bytes(checksum="crc32c") == content
    assert bucket.blob("large.bin").download_as_bytes(start=CHUNK, end=CHUNK + 9) == content[CHUNK : CHUNK + 10]
    pieces = io.BytesIO()
    bucket.blob("large.bin", chunk_size=CHUNK).download_to_file(pieces, checksum="crc32c")
    assert pieces.getvalue() == content

    # A token that is refused before its time is renewed.
    with urllib.request.urlopen(f"{endpoint}/_testbed/expire-tokens", data=b""):
        pass
    assert bucket.blob(blob.name).download_as_bytes() == b"the first content"

    # As on a virtual machine: no key, the metadata server's token.
    credentials, project = google.auth.default()
    machine = storage.Client(project=project, credentials=credentials, client_options=options)
    machine.bucket(bucket_name).blob("machine").upload_from_string(b"y", if_generation_match=0)

    blob.delete()
    refused(exceptions.NotFound, blob.delete)
    report = {"version": storage.__version__, "pages": [len(page) for page in pages], "project": project}
    print(json.dumps(report))


main()
