//! The tests of `proto_tcp`, linked once.

mod common;
mod exports;
mod flows;
mod streams;
