"""Request bodies, read with a limit and unpacked."""

import gzip
import io
import zlib

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest

from catalog.problems import Problem

#: The largest body of any endpoint, unpacked.
MAX_BYTES = 2_000_000


def read_body(request: HttpRequest) -> bytes:
    """The body, gunzipped if need be, of at most MAX_BYTES either way. Raises Problem 413, 415, 400."""
    too_large = Problem(413, "too_large", f"A body holds at most {MAX_BYTES:,} bytes, unpacked.")
    # What is told to be too large is not even read.
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BYTES:
        raise too_large
    try:
        body = request.body
    except RequestDataTooBig:
        raise too_large from None
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "gzip":
        try:
            # Reading one byte past the limit is enough to tell, however large it would unpack.
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Problem(400, "invalid_gzip", f"The body is not gzip: {error}") from None
    elif encoding != "identity":
        raise Problem(415, "unsupported_encoding", "Content-Encoding may be gzip or identity.")
    if len(body) > MAX_BYTES:
        raise too_large
    return body
