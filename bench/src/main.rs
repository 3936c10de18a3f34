//! Side by side with its peers.
fn main() {}
