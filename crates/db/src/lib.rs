//! Queries, values and the standard schema.
