//! The tests of `tm`, linked once.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

mod anycast;
mod asynchronous;
mod branch_routes;
mod common;
mod exports;
mod forking;
mod memory;
mod moving;
mod names;
mod random;
mod relay;
mod serial;
mod torture;
mod watching;
