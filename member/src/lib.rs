//! `redress-member`: what runs inside a member account.
//!
//! Two Lambdas. [`recorder`] stores evidence for the API-shaped runbooks, which do their own calls.
//! [`remediate`] does a native control from inspect to verify; each native function is a file in [`native`].
//! What is decided here is only whether the resource is still what it was ([`judge`]); whether to act at
//! all was decided in the administrator account.

pub mod judge;
pub mod native;
pub mod place;
pub mod record;
pub mod recorder;
pub mod remediate;
pub mod start;

#[cfg(test)]
mod testing;
