//! Any datagram of a RADIUS server, and any text of its files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_radius::config::{Config, secret};
use tandem_radius::dictionary::Dictionary;
use tandem_radius::loader::Loader;
use tandem_radius::packet::Packet;
use tandem_radius::value::{avp, decode};

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind & 1 == 0 {
        let Ok(packet) = Packet::parse(rest) else { return };
        let _ = (packet.answers(&[0; 16], b"secret"), packet.avps());
        return;
    }
    let text = String::from_utf8_lossy(rest);
    let _ = (Config::parse("f", &text), secret(&text, "a"));
    let (mut loader, first) = Loader::new("/d/a");
    let mut wanted = vec![first];
    // Each file of the dictionary is the same one, which may name itself.
    for _ in 0..8 {
        let Some(name) = wanted.pop() else { break };
        wanted.extend(loader.came(&name, Some(rest)));
    }
    let known = loader.dictionary().unwrap_or_else(|_| Dictionary::of("d", &text));
    for name in known.names() {
        let Some(attribute) = known.attribute_named(name) else { continue };
        let _ = (decode(attribute, rest), avp(&known, attribute, rest));
    }
});
