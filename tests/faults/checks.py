"""The checks by name, in the order of the table."""

from __future__ import annotations

from tests.faults import files, processes
from tests.faults.bad_calls import bad_calls
from tests.faults.disk import check_disk
from tests.faults.figures import Check
from tests.faults.images import broken_images
from tests.faults.kills import check_kills
from tests.faults.numbers import numbers
from tests.faults.soak import soak

CHECKS: dict[str, Check] = {
    "kills": check_kills,
    "damaged-files": files.damaged,
    "files-with-code": files.with_code,
    "files-of-other-content": files.of_another_content,
    "disk": check_disk,
    "numbers": numbers,
    "ranks": processes.check_agreement,
    "rank-exits": processes.check_exits,
    "rank-restarts": processes.check_restarts,
    "bad-calls": bad_calls,
    "broken-images": broken_images,
    "soak": soak,
}
