//! Decides the ordered actions that lead from what is observed to what is wanted.
