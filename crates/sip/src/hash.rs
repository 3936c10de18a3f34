//! The string hash that peers put on the wire.

/// The hash that OpenSIPS nodes use in record ids: contact ids of `usrloc`, the `did` of
/// `dialog`. For the wire only: it is not keyed, so a stranger can make strings collide, and it
/// must never be the only key of a table.
#[must_use]
pub fn sip_hash(bytes: &[u8]) -> u32 {
    sip_hash_of(&[bytes])
}

/// The same of several texts, as the transactions of OpenSIPS nodes are found by Call-ID and the
/// number of CSeq.
#[must_use]
pub fn sip_hash_of(texts: &[&[u8]]) -> u32 {
    // Bytes count as signed there, and an incomplete group is mixed in even if it is empty.
    let group = |bytes: &[u8]| {
        bytes.iter().fold(0u32, |v, &b| v.wrapping_mul(256).wrapping_add_signed(i32::from(b as i8)))
    };
    let mut h = 0u32;
    for text in texts {
        let mut groups = text.chunks_exact(4);
        for chunk in groups.by_ref() {
            let v = group(chunk);
            h = h.wrapping_add(v ^ (v >> 3));
        }
        let v = group(groups.remainder());
        h = h.wrapping_add(v ^ (v >> 3));
    }
    h.wrapping_add(h >> 11).wrapping_add(h >> 13).wrapping_add(h >> 23)
}

#[cfg(test)]
mod tests {
    use super::{sip_hash, sip_hash_of};

    #[test]
    fn agrees_with_values_seen_on_the_wire() {
        assert_eq!(sip_hash(b"alice@127.0.0.11"), 0x3f2b_e674);
        assert_eq!(sip_hash(b"call-3dc3885fae") % 4096, 461);
        assert_eq!(sip_hash(b""), 0);
        let slot = |call_id: &[u8], cseq: &[u8]| sip_hash_of(&[call_id, cseq]) % 65_536;
        assert_eq!(slot(b"anycast-1", b"1"), 64_570);
        assert_eq!(slot(b"26774ece393b5888-4838@127.0.1.1", b"10"), 0xddf6);
    }
}
