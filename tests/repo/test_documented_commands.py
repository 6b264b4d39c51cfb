"""Every command that a document shows is run by something that is named."""

import re

import pytest
import yaml

from tests.repo.commands import BLOCKS, COMMANDS, blocks, proof_source
from tests.repo.files import ROOT, documents


def test_every_command_of_a_document_is_proven() -> None:
    """By a test that runs its block, or by one that names it."""
    open_ = [
        f"{block.document}: {command}"
        for block in blocks()
        if (block.document, block.commands[0]) not in BLOCKS
        for command in block.commands
        if command not in COMMANDS
    ]
    assert open_ == [], "run it in a test, and name that test in tests/repo/commands.py"


def test_nothing_is_listed_that_no_document_shows() -> None:
    """The list shrinks with the documents."""
    shown = blocks()
    assert set(BLOCKS) <= {(block.document, block.commands[0]) for block in shown}
    assert set(COMMANDS) <= {command for block in shown for command in block.commands}


@pytest.mark.parametrize(("command", "proof"), COMMANDS.items())
def test_the_named_proof_has_the_command_in_its_text(command: str, proof: str) -> None:
    """What is claimed to be run is at least written there."""
    source = proof_source(proof)
    assert source is not None, f"{proof} does not exist"
    words = re.sub(r"[\"',\[\]()]+", " ", source).split()
    wanted = command.split()
    pairs = [" ".join(words[i : i + len(wanted)]) for i in range(len(words))]
    assert command in pairs or _reached(command, proof)


def _reached(command: str, proof: str) -> bool:
    """Tell whether the CI script reaches a make target through what it names."""
    makefile = (ROOT / "Makefile").read_text()
    target = command.removeprefix("make ")
    ran = re.findall(r"^make (\S+)$", proof_source(proof) or "", re.MULTILINE) if proof == ".ci/run" else []
    return any(re.search(rf"^{name}:(?:.*\s){target}(?:\s|$)", makefile, re.MULTILINE) for name in ran)


@pytest.mark.parametrize(("block", "proof"), BLOCKS.items())
def test_the_test_of_a_block_reads_its_document(block: tuple[str, str], proof: str) -> None:
    """It runs what is printed, not a copy."""
    source = proof_source(proof)
    assert source is not None, f"{proof} does not exist"
    assert f'"{block[0]}"' in source
    assert f'"{block[1]}"' in source


def test_the_deployment_to_scale_down_is_the_shipped_one() -> None:
    """For kubectl -n incident-system scale deployment/incident-operator --replicas=0 to work."""
    base = ROOT / "manifests" / "base"
    deployment = yaml.safe_load((base / "deployment.yaml").read_text())
    kustomization = yaml.safe_load((base / "kustomization.yaml").read_text())
    assert (deployment["kind"], deployment["metadata"]["name"]) == ("Deployment", "incident-operator")
    assert kustomization["namespace"] == "incident-system"


def test_the_readmes_incident_is_the_shipped_example() -> None:
    """What is printed is what is applied."""
    (printed,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert yaml.safe_load(printed) == yaml.safe_load((ROOT / "examples" / "incident-run.yaml").read_text())


def test_every_file_that_a_document_links_to_is_there() -> None:
    """Relative links lead somewhere."""
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents()
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []
