//! What cannot be undone: asked for by one, agreed to by another, and only after a last snapshot.
