//! What a reply leaves with a message: the AVPs that its attributes SIP-AVP hold.

use bytes::Bytes;
use tandem_engine::context::Ctx;
use tandem_radius::dictionary::Dictionary;
use tandem_radius::packet::Avp;
use tandem_script::value::Value;

const SIP_AVP: &str = "SIP-AVP";

/// Keeps the AVPs of a reply with its message.
pub fn keep(dictionary: &Dictionary, avps: &[Avp], ctx: &mut Ctx) {
    let Some(sip_avp) = dictionary.attribute_named(SIP_AVP) else { return };
    let of_this = |avp: &&Avp| avp.vendor == sip_avp.vendor && Some(avp.number) == sip_avp.number;
    for avp in avps.iter().filter(of_this) {
        if let Some((name, value)) = read(&avp.value) {
            // A message that has too many does without.
            let _ = ctx.avps.insert(name, value, false);
        }
    }
}

/// Reads the value of a SIP-AVP: `name:text`, `name#number`; a name that is a number begins with
/// `#`.
fn read(text: &[u8]) -> Option<(&[u8], Value)> {
    let text = text.strip_prefix(b"#").unwrap_or(text);
    let at = text.iter().position(|byte| matches!(byte, b':' | b'#'))?;
    let (name, rest) = text.split_at_checked(at)?;
    let (kind, value) = rest.split_first()?;
    if name.is_empty() {
        return None;
    }
    let value = match kind {
        b'#' => Value::Int(std::str::from_utf8(value).ok()?.trim().parse().ok()?),
        _ => Value::Str(Bytes::copy_from_slice(value)),
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_values_are_told_apart() {
        let name = |text: &'static [u8]| read(text);
        let text = |text: &'static [u8]| Value::Str(Bytes::from_static(text));
        assert_eq!(name(b"email:joe@a:b"), Some((&b"email"[..], text(b"joe@a:b"))));
        assert_eq!(name(b"#14:x"), Some((&b"14"[..], text(b"x"))));
        assert_eq!(name(b"age#28"), Some((&b"age"[..], Value::Int(28))));
        assert_eq!(name(b"#14#-2"), Some((&b"14"[..], Value::Int(-2))));
        for none in ["", "a", ":a", "#", "##3", "a#x"] {
            assert_eq!(read(none.as_bytes()), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(#|:|a|1|\\PC){0,12}") {
            let _ = read(text.as_bytes());
        }
    }
}
