"""Contents of requests: JSON objects, within limits of size and time."""

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from cotrace.common.errors import one_line

MAX_BODY_BYTES = 4 * 2**20  # labels and groups of the largest graphs take less
BODY_SECONDS = 10.0
CLOSE = {"Connection": "close"}  # what else the client sends is not read


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request. Raises HTTPException for one that is too large, too slow, or no JSON object."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "send application/json", CLOSE)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request)
        value = json.loads(body, parse_constant=_refuse_constant)
    except TimeoutError:
        raise HTTPException(408, f"the request did not arrive within {BODY_SECONDS:g} seconds", CLOSE) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client hung up", CLOSE) from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the request is not JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return value


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the request is larger than {MAX_BODY_BYTES // 2**20} MiB", CLOSE)
    return bytes(body)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")
