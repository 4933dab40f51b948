//! What several tests need.

use std::path::PathBuf;

use redress_runbooks::control::Control;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The committed controls.
#[allow(clippy::expect_used)]
pub(crate) fn controls() -> Vec<Control> {
    redress_runbooks::load_controls(&root().join(redress_runbooks::write::CONTROLS))
        .expect("the committed controls load")
}
