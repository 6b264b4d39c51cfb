"""Writes docs/catalogue.md from the catalogue itself: `python -m tests.repo.catalogue_page`."""

from incident_operator.actions.catalogue import catalogue
from incident_operator.cli.catalogue_view import markdown
from tests.repo.files import ROOT

PAGE = ROOT / "docs" / "catalogue.md"
_INTRODUCTION = """\
# The catalogue

Every check and fix that a runbook can name, with its inputs, the reasons it can give and the IAM actions it needs.
This page is written from the code (`make docs`); a test fails when the two differ.

An input of the same name as a parameter of the runbook is bound to it without saying so. A *literal* input takes no
`${}`. A reason of kind Problem makes its check Failed; Info only tells.
"""


def page() -> str:
    """Return the whole page."""
    lines = [_INTRODUCTION]
    for kind, title in (("Check", "Checks"), ("Fix", "Fixes")):
        lines.append(f"## {title}\n")
        for name, action in sorted(catalogue().items()):
            if action.kind == kind:
                lines += [*markdown(name, action), ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
