//! What both accounts need of AWS: clients, the member session, the tables, the evidence bucket.
//!
//! The one place of this crate with I/O. Nothing here decides anything.

pub mod config;
pub mod envelope;
pub mod evidence;
pub mod failure;
pub mod item;
pub mod ledger_store;
pub mod member_session;
pub mod open;
pub mod state_table;
