//! `redress-member`: what runs inside a member account.
//!
//! Four binaries. [`recorder`] stores evidence for the API-shaped runbooks, which do their own calls.
//! [`remediate`] does a native control from inspect to verify; each native function is a file in [`native`]. What destroys is
//! run by a function of its own. It runs the playbooks of [`playbook`] in the same way, in functions of their own that no
//! runbook calls.
//! [`guard`] looks, before anything is done, at what a change would touch, and changes nothing.
//! What is decided here is only whether the resource is still what it was ([`judge`]); whether to act at
//! all was decided in the administrator account.

pub mod alarms;
mod copies;
pub mod custody;
pub mod guard;
pub mod judge;
pub mod native;
pub mod place;
pub mod playbook;
pub mod record;
pub mod recorder;
pub mod remediate;
pub mod start;
pub mod wire;

#[cfg(test)]
mod testing;
