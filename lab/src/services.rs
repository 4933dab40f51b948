//! The services that the lab answers itself, one module each.

pub mod config;
pub mod eks;
#[cfg(test)]
pub(crate) mod fake;
pub mod guardduty;
pub mod securityhub;
pub mod ssm;
pub mod stacksets;
