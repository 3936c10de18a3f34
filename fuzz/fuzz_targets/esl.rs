//! Any stream of an event socket, in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_freeswitch::frame::{Framer, event};

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut framer = Framer::default();
    for bytes in stream.chunks(usize::from(*piece).max(1)) {
        framer.feed(bytes);
        while let Ok(Some(frame)) = framer.next_frame() {
            let _ = event(&frame).map(|lines| lines.get("Event-Name").map(str::len));
        }
    }
});
