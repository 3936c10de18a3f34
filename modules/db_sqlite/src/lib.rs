//! The `db_sqlite` module.
