//! The audit ledger: what one record holds, and how records are chained.
