//! GuardDuty's own sample findings, of every type that a playbook names, go the whole way and change nothing.
