"""A program that calls the HTTP API by the types that quicktype makes of its document."""

import json
import os
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

import models


def call(method, path, body=None, **headers):
    """Returns the status of a reply and its JSON."""
    request = urllib.request.Request(
        os.environ["API"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def same(got, want, what):
    assert got == want, f"{what}: got {got!r}, want {want!r}"


# Python's integers are exact.
scalars = models.ScalarsParams(
    yes=True, i=-1, i8=-128, i16=1, i32=1, i64=9007199254740993,
    u=0, u8=255, u16=1, u32=1, u64=18446744073709551615,
    f32=0.5, f64=0.1, text="grüße",
)
status, reply = call("POST", "/tasks/scalars/runs", scalars.to_dict())
same(status, 201, "status")
queued = models.Queued.from_dict(reply)
status, reply = call("GET", f"/tasks/scalars/runs/{queued.id}?wait=30s")
run = models.ScalarsTaskRun.from_dict(reply)
same(run.result, "grüße", "result")
status, reply = call("POST", "/tasks/scalars/runs?delay=1h", scalars.to_dict())
status, reply = call("GET", f"/tasks/scalars/runs/{reply['id']}")
run = models.ScalarsTaskRun.from_dict(reply)
same(int(run.params.i64), 9007199254740993, "i64")
same(int(run.params.u64), 18446744073709551615, "u64")

# Times; those of Python have microseconds.
at = datetime(2026, 11, 30, 20, 15, 0, 123456, timezone(timedelta(hours=2)))
named = models.NamedParams(level=3, name="n", ratio=1.5, flag=False, wait="1m30s", at=at)
status, reply = call("POST", "/tasks/named/runs", named.to_dict())
same(status, 201, "status")
status, reply = call("GET", f"/tasks/named/runs/{reply['id']}?wait=30s")
run = models.NamedTaskRun.from_dict(reply)
same(run.result, at, "time")

# An error has a code, and the place of what is wrong.
scalars.i8 = 200
status, reply = call("POST", "/tasks/scalars/runs", scalars.to_dict())
problem = models.Problem.from_dict(reply)
same((status, problem.code, problem.errors[0].pointer), (400, models.Code.INVALID_PARAMETERS, "/i8"), "problem")

# What does not fit is refused before it is sent.
try:
    models.ScalarsParams.from_dict({**models.ScalarsParams.to_dict(scalars), "yes": "no"})
except AssertionError:
    pass
else:
    raise SystemExit("a string is taken for a bool")

print("Python: done")
