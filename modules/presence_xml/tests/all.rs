//! The tests of `presence_xml`, linked once.

mod common;
mod exports;
mod watching;
