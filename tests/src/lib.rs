//! `redress-tests`: end-to-end tests over the lab, and what they share.
//!
//! The tests are in `tests/`, one file a contract. The figures of DESIGN §10, and those of containment, are in `benches/`.

pub mod again;
pub mod ask;
pub mod bench;
pub mod cluster;
pub mod coverage;
pub mod grants;
pub mod guarded;
pub mod inbox;
pub mod incident;
pub mod measure;
pub mod operate;
pub mod planned;
pub mod powers;
pub mod raw;
pub mod world;
