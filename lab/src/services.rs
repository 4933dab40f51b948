//! The services that the lab answers itself, one module each.
