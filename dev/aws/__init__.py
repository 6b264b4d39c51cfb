"""An AWS to develop and test against: moto's server, with the parts that decide incidents made real.

Policies decide on every call, deployed functions run under their role, telemetry arrives late, and every call is in a
journal. It speaks on loopback only. One concern per file:

wire          HTTP requests of any AWS protocol to calls, and answers back
identity      who calls: admin keys, users, sessions of assumed roles
policies      what policy documents say; pure
permissions   which IAM actions on which resources a call needs
authorization the verdict on a call, in AWS's own words
pipeline      the order of things for one call
functions     versions, aliases and revisions of Lambda; invocation and workers: running them
telemetry     log lines and metrics, each after its ingestion delay; trail: CloudTrail
simulation    iam:SimulatePrincipalPolicy
services      what goes on without anybody's call: instances, Auto Scaling groups, load balancers
journal, dump, faults, mailboxes, control: what tests ask of the simulator itself, under /_sim/
"""
