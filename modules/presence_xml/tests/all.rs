//! The tests of `presence_xml`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod common;
mod exports;
mod watching;
