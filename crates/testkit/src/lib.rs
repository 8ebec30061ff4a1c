//! Test fixtures and fault tools.
