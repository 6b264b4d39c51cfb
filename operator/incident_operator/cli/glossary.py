"""What each reason means and what to do about it, in one place: shown by the commands, checked against docs/.

Keys are the reasons as they stand in status. `{run}` and `{ns}` in a command are filled in by `commands`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..api.run import IncidentRun


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run can end: what it means, and what to type next."""

    meaning: str
    next: tuple[str, ...] = ()


_PLAN = "kubectl incident plan -n {ns} {run}"
_DESCRIBE = "kubectl describe irun -n {ns} {run}"
_GET = "kubectl get irun -n {ns} {run} -o yaml"

#: `status.outcome` of a run that has ended.
ENDINGS: Mapping[str, Ending] = {
    "Runbook": Ending(meaning="A fix of the runbook helped, and recovery held.", next=(_PLAN,)),
    "SelfRecovered": Ending(
        meaning="The service recovered, and nothing the operator did brought that about.", next=(_DESCRIBE,)
    ),
    "Manual": Ending(meaning="A person repaired it and recorded what they did.", next=(_DESCRIBE,)),
    "NothingFound": Ending(
        meaning="Every check passed and users are well. That is not yet a false alarm: a person decides.",
        next=(_DESCRIBE,),
    ),
    "DiagnosisIncomplete": Ending(
        meaning="No problem was found, but a check gave no answer, so nothing can be ruled out.", next=(_DESCRIBE,)
    ),
    "NoFixApplies": Ending(
        meaning="Something is wrong, and no fix of this runbook fits it. A person has to act.", next=(_DESCRIBE,)
    ),
    "FixesExhausted": Ending(
        meaning="Every fix that applies was tried or left out, or one ended so that no other may follow by itself. "
        "A person has to act.",
        next=(_PLAN, _DESCRIBE),
    ),
    "NotPermitted": Ending(
        meaning="A fix is planned, and a person said no, or a gate blocks that nobody's agreement opens. Nothing was "
        "changed by it.",
        next=(_PLAN,),
    ),
    "ApprovalTimeout": Ending(
        meaning="People were asked, and not enough agreed in time. What they were asked for was not done.",
        next=(_PLAN, _DESCRIBE),
    ),
    "ObserveOnly": Ending(
        meaning="The run was told to look only: nothing was changed. The plans show what a new run would be let to do.",
        next=(_PLAN,),
    ),
    "RecoveryNotReached": Ending(
        meaning="Users are still not well although a fix was applied or recovery was awaited.", next=(_PLAN, _DESCRIBE)
    ),
    "FixInconclusive": Ending(
        meaning="Whether a fix helped could not be told. It is still in place: look before doing it again.",
        next=(_PLAN,),
    ),
    "StartDeadline": Ending(
        meaning="The run came too late after detection to act. Nothing was read or changed: apply a new run.",
    ),
    "Cancelled": Ending(
        meaning="A person cancelled the run, or deleted it. The message says what was applied and stays in place.",
        next=(_PLAN, _DESCRIBE),
    ),
}

#: `Accepted=False`: why a run does not start; its spec can still be edited. After the start: why it Failed.
REFUSALS: Mapping[str, str] = {
    "RunbookNotFound": "No runbook of that kind and name is installed.",
    "RunbookInvalid": "The runbook does not hold: its Ready condition names field, line and column.",
    "RunbookArchived": "The runbook is kept, but not used any more; the message says why, and what to use instead.",
    "ParametersInvalid": "A parameter is missing, unknown or out of its bounds.",
    "GrantMissing": "No ActionGrant selects the namespace, or none permits this action, region and resource.",
    "AlreadyHandled": "A run of this name acted on this incident already, as after a restored backup. See the message.",
    "RevisionLost": "The stored revision of the runbook that this run follows is gone: apply a new run.",
    "IncidentNotFound": "The run names an incident to join that does not exist in its namespace.",
    "IncidentClosed": "The run names an incident to join that is over for good.",
}

#: `status.gates[].name` of a plan: the fact that blocks.
GATES: Mapping[str, str] = {
    "RunbookInvalid": REFUSALS["RunbookInvalid"],
    "GrantMissing": REFUSALS["GrantMissing"],
    "GrantSuspended": "Somebody halted all changes under the grant; the message has the reason.",
    "RiskAboveCeiling": "The risk is above what the run and its grant allow to be proposed, or this is a drill.",
    "PermissionMissing": "The grant's role lacks a permission that the plan needs, by simulation.",
    "AdmissionUnproven": "It is not proven that the API server checks who says what, so nobody's word counts.",
    "ResourceLocked": "Another plan is changing one of the resources; the message names both.",
    "Paused": "A person paused the run.",
    "NotLeader": "This replica does not hold the Lease; the one that does will act.",
    "ApprovalMissing": "A person must agree to this plan, or another one besides who did.",
    "Frozen": "The grant says that nothing be changed in this time.",
    "Cooldown": "What started the run acted a short while ago.",
    "CircuitOpen": "Too many runs of the same origin failed in a row.",
    "RunbookStale": "The runbook is not Fresh: a review of it is overdue, or it is archived.",
    "HealthBudget": "Fewer would be healthy than there must be, and than there are.",
    "CommonCause": "All targets fail alike: what they share is broken, and replacing some is no cure.",
    "DownstreamBudget": "The database would get more connections than it bears.",
    "EvidenceMissing": "Whoever is shut out is warned by it, and the run's evidence is not written yet.",
}

#: `spec.askBecause` of a plan: why a machine must not apply it by itself.
ASKS: Mapping[str, str] = {
    "AccessRemovedOnPurpose": "A protected actor took the access away; giving it back may undo a deliberate decision.",
    "ActorUnknown": "Nobody can name yet who took the access away; CloudTrail shows changes minutes late.",
    "DatabaseUnknown": "Each new instance opens database connections, and how many are left is not known.",
    "SuspendedBefore": "The process was suspended before the incident, or nobody can tell when: perhaps on purpose.",
    "BeyondRestorable": "The plan gives access that the grant does not call restorable.",
    "ContainmentIsForPeople": (
        "The plan takes access away from somebody for good: no machine decides that, and none puts it back."
    ),
    "OwnServiceUsesKey": (
        "Calls with the key came from networks that are our own: disabling it may break a service of ours."
    ),
    "OwnNetworksUnknown": (
        "No networks of our own are named besides those that the account shows: the plan may shut out our own."
    ),
    "OwnUseUnknown": (
        "Nobody can tell whether a service of ours uses the key: no networks of our own are named, or neither "
        "CloudTrail nor an access log shows who calls."
    ),
}

#: `status.state` of a plan.
PLAN_STATES: Mapping[str, str] = {
    "Proposed": "Planned; nothing has been changed. What blocks it is in `status.gates`.",
    "Approved": "Agreed to; about to be applied.",
    "Applying": "Its calls are being made, one at a time, each written down first.",
    "Verifying": "Every call is made; waiting for the signal that proves it.",
    "Helped": "The fix's own signal shows that it worked.",
    "NoEffect": "The signal was measured and shows no effect, or the first call failed. Nothing was put back.",
    "Worse": "The signal shows harm, and nothing was put back automatically.",
    "Inconclusive": "The signal could not be measured in time, or only part of the calls took effect.",
    "Reverting": "The former state is being put back; the reason says why.",
    "Reverted": "What was changed is put back.",
    "UndoBlocked": "The former state could not be put back, or only in part. A person must look now.",
    "Rejected": "A person said no.",
    "Superseded": "The world changed before the first call; a newer plan replaces it, or none is needed.",
    "Expired": "It was given up before its first call. Nothing was changed.",
    "Unknown": "A call was interrupted and whether it took effect can't be told. It is never repeated.",
}

#: `status.reason` of a plan. Besides these: a gate that closed, or a read that failed, just before the first call.
PLAN_REASONS: Mapping[str, str] = {
    "Approved": "Enough people agree, and nothing blocks.",
    "Applying": "The run handed over to it, and nothing blocks.",
    "Verifying": "Every call is made.",
    "AwaitingSignal": "The signal can't be there yet; the message says what it waits for.",
    "Verified": "The signal shows that the fix worked.",
    "Kept": "A person keeps a temporary fix: it is not looked at again.",
    "NoEffect": "The signal was measured until the deadline and did not change.",
    "CallFailed": "The first call was refused, so nothing was changed.",
    "Worse": "The signal shows harm.",
    "NotMeasured": "The signal could not be measured until the deadline.",
    "NotReadyInTime": "What the next call waits for did not come in time; the calls before it stay in place.",
    "PartlyApplied": "A later call failed; the calls before it stay in place. Read the journal, then finish or undo.",
    "CallUnknown": "A call was interrupted and its effect can't be seen. Look before doing it by hand.",
    "JournalIncomplete": "The plan's stored status lacks an instant it must have.",
    "Cancelled": "A person cancelled or deleted the run. What was done before stays, unless they said to put it back.",
    "Deleted": "The plan was deleted. What was done before stays, unless its run says `deletionPolicy: Revert`.",
    "Reverting": "A person asked to put it back.",
    "TemporaryExpired": "The time of a temporary fix is over, and it is to be put back by itself.",
    "Reverted": "What was changed is put back.",
    "ChangedSince": "What the fix left was changed by somebody since, so nothing was put back over it.",
    "UndoFailed": "A call of the undo failed. The former state is only partly back.",
    "Rejected": "A person said no.",
    "ApprovalTimeout": "Nobody agreed in time to put back a fix whose run has ended.",
    "Replaced": "A newer diagnosis plans the fix otherwise: the message names the plan that takes its place.",
    "WorldChanged": "Looked at again just before the first call, the fix would make other calls, or none.",
    "InvalidInput": "The action's inputs do not hold any more, as after an upgrade: it is planned anew.",
    "RunFinished": "The run ended without this plan.",
    "GrantMissing": REFUSALS["GrantMissing"],
}

#: Why an intervention does not count: the reason of its condition `Effective=False`.
ANSWERS: Mapping[str, str] = {
    "PlanChanged": "The plan is not what waits any more: a newer one replaced it, or it has begun. Read the new one.",
    "Expired": "It was said too long ago, or after the run had stopped waiting.",
    "WrongUID": "An object of the same name is there, but it is not the one that was meant.",
    "TargetMissing": "The plan, run or incident is gone.",
    "SelfApproval": "Who asked for the run may not agree to its plans at this tier and severity: somebody else must.",
    "SamePerson": "This person has agreed already: another one must.",
    "TierMismatch": "The plan is of another tier than the one that was agreed to.",
    "NotOverridable": "A gate was named that no approval can lift.",
    "TooLate": "The run or incident is over, or what was said can't be done any more.",
    "NothingToRevert": "Nothing of this plan is in place, or it can't be undone.",
    "NothingToKeep": "The plan waits for nobody's word on what it changed.",
    "NoSuchFix": "The run's runbook has no fix of that name.",
    "NotPaused": "The run is not paused.",
    "NoSuchIncident": "There is no incident of the name that was given.",
    "NotYet": "The close-out begins when the incident is resolved.",
    "NoStatusPage": "No channel of type StatusPage with a Secret is in the EscalationPolicy.",
}


def ending_of(run: IncidentRun) -> Ending:
    """Return what the end of a run means; an outcome this version does not know speaks for itself."""
    outcome = run.status.outcome or ""
    unknown = Ending(meaning=REFUSALS.get(outcome, "See the message and the timeline."), next=(_DESCRIBE, _GET))
    return ENDINGS.get(outcome, unknown)


def commands(run: IncidentRun) -> tuple[str, ...]:
    """Return what a person can type now: what the operator says, else what the ending suggests."""
    if run.status.now is not None and run.status.now.next:
        return run.status.now.next
    if run.status.finished_at is None:
        return ()
    names = {"ns": run.metadata.namespace or "default", "run": run.metadata.name}
    return tuple(command.format(**names) for command in ending_of(run).next)
