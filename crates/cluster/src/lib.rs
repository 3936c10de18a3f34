//! Membership, links, capabilities, sync and sharing tags.
