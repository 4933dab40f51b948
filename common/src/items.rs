//! What lies in the state table beside claims and chain heads: what operators set, what is known of accounts, what runs,
//! what waits for an answer. One item a module.
//!
//! Shapes and pure questions about them; nothing here reads or writes a table, and nothing decides.

pub mod account;
pub mod approval;
pub mod breaker;
pub mod campaign;
pub mod checkpoint;
pub mod deployment;
pub mod destination;
pub mod exemption;
pub mod flight;
pub mod policy;
pub mod reconciler;
pub mod settings;
