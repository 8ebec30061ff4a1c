//! Package archives to verified bytes in the store.
