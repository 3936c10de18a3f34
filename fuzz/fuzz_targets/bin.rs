//! Any stream of a peer, in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_bin::clusterer::{Extra, Internal};
use tandem_bin::cachedb_local::CachedbLocal;
use tandem_bin::dialog::{DialogPacket, FullDialog, did, entries, profiles};
use tandem_bin::ratelimit;
use tandem_bin::tm::TmPacket;
use tandem_bin::usrloc::{SyncRecord, Usrloc};
use tandem_bin::{Framer, Packet};

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut framer = Framer::default();
    for bytes in stream.chunks(usize::from(*piece).max(1)) {
        framer.push(bytes);
        while let Ok(Some(frame)) = framer.next_frame() {
            judge(frame);
        }
    }
    judge(bytes::Bytes::copy_from_slice(stream));
});

fn judge(frame: bytes::Bytes) {
    let Ok(packet) = Packet::decode(frame) else { return };
    let (kind, version, payload) = (packet.packet_type, packet.version, &packet.payload);
    let _ = Internal::decode(kind, payload);
    let _ = Extra::decode(kind, version, payload);
    let _ = Usrloc::decode(kind, version, payload);
    let _ = SyncRecord::decode(version, payload);
    let _ = DialogPacket::decode(kind, version, payload);
    let _ = entries::decode(payload);
    let _ = did::parse(payload);
    let _ = profiles::decode(payload);
    let _ = CachedbLocal::decode(kind, payload);
    let _ = ratelimit::decode(payload);
    let _ = ratelimit::decode_bridged(payload);
    if let Ok(dialog) = FullDialog::decode(version, payload) {
        let _ = entries::decode(&dialog.variables);
        let _ = entries::decode(&dialog.profiles);
    }
    if let Ok(TmPacket::Request(message)) = TmPacket::decode(kind, payload) {
        let _ = message.source();
    }
}
