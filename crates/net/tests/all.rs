//! The tests of `net`, linked once.

mod bin;
mod udp;
