//! The use cases: load, decide, do, save. They return values, never text.
