//! `redress-admin`: what the administrator account's functions do.
//!
//! `orchestrator`: [`intake`] (what is it about) → [`decide`] ([`policy`], [`guard`], [`claim`]) → [`orchestrate`].
//! `completion`: [`outcome`] (what does it mean) → [`completion`].
//! `workflow`: [`workflow`], step by step; people answer by [`approval`]. All of them drive [`ports::Outside`], which is all
//! that they see of AWS; [`aws`] is the real one. `notifier`: [`notify`], which hears of the topic only.
//! `checkpoint`: [`checkpoint`], which signs where the ledger ends and cannot write it. Nothing here knows what a control does to a resource.

pub mod api;
pub mod approval;
pub mod aws;
mod backlog;
pub mod batch;
pub mod breaker;
pub mod checkpoint;
pub mod claim;
pub mod completion;
mod context;
pub mod decide;
pub mod direct;
pub mod guard;
pub mod intake;
pub mod notify;
pub mod orchestrate;
pub mod outcome;
pub mod policy;
pub mod ports;
pub mod reconcile;
pub mod report;
pub mod tell;
mod triage;
mod untold;
pub mod workflow;

#[cfg(test)]
mod fixture;
