//! `redress-lab`: a whole organisation on one machine, for tests, demos and trying things out.
//!
//! A gateway on loopback is the one endpoint of every client. Behind it stand pinned emulators; in front
//! of them the lab answers what they lack ([`services`]). Nothing here is shipped to AWS.

pub mod service;
pub mod services;
