//! Files, FIFOs and databases.
