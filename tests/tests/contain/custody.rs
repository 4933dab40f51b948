//! What is kept of an incident: where it lies, who took it, and that nobody changes it.
