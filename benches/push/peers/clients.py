"""Google's own client, taken as its documentation says for many requests at the same time."""

import requests.adapters
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage


def bare(settings):
    """A client as whoever begins makes it."""
    options = ClientOptions(api_endpoint=settings.endpoint)
    return storage.Client(project="bench", credentials=AnonymousCredentials(), client_options=options)


def pooled(settings, at_once):
    """One that keeps as many connections as there may be requests. Its own pool has ten."""
    client = bare(settings)
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=at_once)
    client._http.mount("http://", adapter)
    client._http.mount("https://", adapter)
    return client


def store(client, settings, name, jpeg):
    """One request, and with the precondition it may be repeated."""
    blob = client.bucket(settings.bucket).blob(name)
    blob.upload_from_string(jpeg, content_type="image/jpeg", if_generation_match=0, checksum="crc32c")
    return settings.url(name)
