"""The Dockerfile, read: enough of its syntax to say what an image would be made of."""

import json
import re
import shlex
from dataclasses import dataclass

from tests.repo.files import ROOT


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction. Shape: `stage` counts from 0; `text` is what follows the name, on one line."""

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The text as words, whether it is written as JSON or as a shell would read it."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return shlex.split(self.text)


def instructions(text: str | None = None) -> list[Instruction]:
    """Return the instructions of a Dockerfile, by default the repository's."""
    whole = (ROOT / "Dockerfile").read_text() if text is None else text
    lines = [line for line in whole.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found, stage = [], -1
    for line in joined.splitlines():
        name, _, rest = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage=stage, name=name, text=rest.strip()))
    return found


def copied() -> list[str]:
    """Return what the Dockerfile copies from the checkout."""
    return [
        source
        for step in instructions()
        if step.name == "COPY" and "--from=" not in step.text
        for source in step.words[:-1]
    ]
