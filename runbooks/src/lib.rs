//! Controls as data: one YAML file a control in `ssm-documents/controls/`, or a playbook in `ssm-documents/playbooks/`, compiled to the SSM Automation
//! documents, the IAM roles that run them, the orchestrator's catalogue and the page that people read. Besides, the template of
//! alarms and dashboards ([`monitoring`]), which is a table, too, the policies of the functions' roles, of what each is said to
//! call ([`functions`]), the page that says who may assume which role ([`trust`]), of
//! the templates, and the template of Security Hub's automation rules ([`security_hub`]).
//!
//! Everything here is a pure function of the control files, but for [`control::load_controls`], [`functions::load`] and
//! [`write`](mod@write), which touch the disk. Nothing here calls AWS, and no document ever runs a script.
//!
//! Templates, ours and those of whoever depends on this crate, are read by [`cloudformation`].
//!
//! Start at [`control::Control`] (what a file may say), then [`compile`] (what is made of it); [`lint`] is the
//! second opinion on what was made.

pub mod cloudformation;
pub mod compile;
pub mod control;
pub mod digest;
pub mod document;
pub mod functions;
pub mod iam;
pub mod lint;
pub mod monitoring;
pub mod page;
pub mod security_hub;
pub mod template;
pub mod trust;
pub mod write;

pub use compile::{CompileError, Generated, compile_all};
pub use control::{Control, ControlError, load_controls, load_playbooks};
pub use lint::{LintError, lint};
