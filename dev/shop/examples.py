"""The examples: runs to apply, each with the fault it is about and the end it comes to.

The first lines of an example's file are comments for people; some of them are also read here:
`# fault: NAME` (or `none`), `# expect: PHASE/OUTCOME` (`Pending/REASON` for one that is refused), and where people have
a part in it `# people: approve | reject | cancel`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "examples"
#: The one example that is no run: it starts them.
POLICY = FOLDER / "remediation-policy.yaml"
_FAULT = re.compile(r"^# fault: (\S+)$", re.MULTILINE)
_PEOPLE = re.compile(r"^# people: (\w+)$", re.MULTILINE)
_EXPECT = re.compile(r"^# expect: (\w+)/(\w+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example.

    Shape: `fault` is None where nothing has to be broken; `outcome` is the Finished reason; `people` is what somebody
    does once the run asks, None where it does not.
    """

    file: Path
    fault: str | None
    phase: str
    outcome: str
    people: str | None
    manifest: dict[str, Any]

    @property
    def path(self) -> str:
        """The file as people type it, from the checkout's root."""
        return f"{FOLDER.name}/{self.file.name}"


def read(file: Path) -> Example:
    """Return an example. Errors: ValueError for a file without the two comments."""
    text = file.read_text()
    fault, expect = _FAULT.search(text), _EXPECT.search(text)
    if fault is None or expect is None:
        raise ValueError(f"{file.name} says not which fault it is about, or not what to expect")
    return Example(
        file=file,
        fault=None if fault[1] == "none" else fault[1],
        phase=expect[1],
        outcome=expect[2],
        people=people[1] if (people := _PEOPLE.search(text)) else None,
        manifest=yaml.safe_load(text),
    )


def examples() -> dict[str, Example]:
    """Return every run among the examples by file name, sorted."""
    runs = (file for file in sorted(FOLDER.glob("*.yaml")) if file != POLICY)
    return {file.name: read(file) for file in runs}
