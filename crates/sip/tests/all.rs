//! The tests of `sip`, linked once.

mod build;
mod edits;
mod message;
mod torture;
mod torture_each;
