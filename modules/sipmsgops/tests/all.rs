//! The tests of `sipmsgops`, linked once.

mod exports;
mod hostile;
