//! `redress-common`: the language that the administrator account and the member accounts speak.
//!
//! Everything here is a value or a pure function of values, but for [`aws`], which holds what both
//! sides need of AWS. It knows nothing of Lambda, of policy or of any single control.
//!
//! Start at [`finding`] (what came in), [`contract`] (what passes between the accounts) and
//! [`ledger`] (what is written down).

pub mod arn;
pub mod automation_rules;
pub mod aws;
pub mod catalogue;
pub mod checkpoint;
pub mod command_document;
pub mod containable;
pub mod contract;
pub mod custody;
pub mod eks;
pub mod external_id;
pub mod finding;
pub mod ids;
pub mod items;
pub mod ledger;
pub mod metrics;
pub mod names;
pub mod notification;
pub mod operate;
pub mod state;
pub mod time;
