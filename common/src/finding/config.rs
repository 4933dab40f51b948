//! The wire format of this reporter.
