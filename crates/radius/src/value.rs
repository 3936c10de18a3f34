//! Values of attributes, as people write them and as they travel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dictionary::{Attribute, Dictionary, Kind};
use crate::packet::{Avp, VALUE_BYTES_MAX, VENDOR_VALUE_BYTES_MAX};

/// A value that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Int(u64),
    Text(Vec<u8>),
}

/// The attribute with this name, for a packet.
///
/// # Errors
/// If it has none that a packet can carry.
pub fn attribute<'a>(dictionary: &'a Dictionary, name: &str) -> Result<&'a Attribute, String> {
    let Some(found) = dictionary.attribute_named(name) else {
        return Err(format!(
            "the dictionary {} has no attribute {name}: add a line `ATTRIBUTE {name} NUMBER TYPE` \
             to it, with the number that the server knows",
            dictionary.file
        ));
    };
    match found.number {
        Some(1..) => Ok(found),
        _ => Err(format!(
            "{name} has no number in the dictionary that a packet can carry (1 to 255)"
        )),
    }
}

/// An attribute with a value that a person or a script has written.
///
/// # Errors
/// If the value is none of the attribute's kind.
pub fn avp(dictionary: &Dictionary, attribute: &Attribute, text: &[u8]) -> Result<Avp, String> {
    let name = &attribute.name;
    let most = match attribute.vendor {
        // Hidden ones grow to whole blocks of 16 bytes, 8 at most (RFC 2865 5.2).
        _ if attribute.hidden => 128,
        0 => VALUE_BYTES_MAX,
        _ => VENDOR_VALUE_BYTES_MAX,
    };
    let value = encode(dictionary, attribute, text)?;
    if value.len() > most {
        return Err(format!("{name} may have {most} bytes, and has {}", value.len()));
    }
    let number = attribute.number.ok_or_else(|| format!("{name} has no number"))?;
    Ok(Avp { vendor: attribute.vendor, number, value, hidden: attribute.hidden })
}

fn encode(dictionary: &Dictionary, attribute: &Attribute, text: &[u8]) -> Result<Vec<u8>, String> {
    let name = &attribute.name;
    let shown = String::from_utf8_lossy(text);
    let is_no = |what: &str| format!("{name} is {what}, and `{shown}` is none");
    match attribute.kind {
        Kind::Text | Kind::Octets => Ok(text.to_vec()),
        Kind::Int(bytes) => {
            let by_name = || dictionary.value(name, shown.trim());
            let number = number(&shown).or_else(by_name);
            let number = number.ok_or_else(|| is_no("a number, or the name of a VALUE"))?;
            let all = number.to_be_bytes();
            let (left, right) = all.split_at(8 - usize::from(bytes.min(8)));
            // Negative numbers have all of their upper bits.
            let fits = left.iter().all(|b| *b == 0)
                || shown.trim().starts_with('-') && left.iter().all(|b| *b == 0xff);
            if fits { Ok(right.to_vec()) } else { Err(is_no(&format!("of {bytes} bytes"))) }
        }
        Kind::Date => {
            let seconds = number(&shown).and_then(|n| u32::try_from(n).ok());
            let seconds = seconds.ok_or_else(|| is_no("a time in seconds of Unix"))?;
            Ok(seconds.to_be_bytes().to_vec())
        }
        Kind::Ipv4 => {
            let ip: Result<Ipv4Addr, _> = shown.trim().parse();
            Ok(ip.map_err(|_| is_no("an IPv4 address"))?.octets().to_vec())
        }
        Kind::Ipv6 => {
            let bare = shown.trim().trim_start_matches('[').trim_end_matches(']');
            let ip: Result<Ipv6Addr, _> = bare.parse();
            Ok(ip.map_err(|_| is_no("an IPv6 address"))?.octets().to_vec())
        }
        Kind::Ipv6Prefix => {
            let prefix = shown.trim().split_once('/').and_then(|(ip, length)| {
                let length: u8 = length.parse().ok().filter(|length| *length <= 128)?;
                Some((ip.parse::<Ipv6Addr>().ok()?, length))
            });
            let (ip, length) = prefix.ok_or_else(|| is_no("an IPv6 prefix"))?;
            Ok([&[0, length], &ip.octets()[..]].concat())
        }
        Kind::Other => Err(format!("{name} is of a type that is not written here")),
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse().ok().map(i64::cast_unsigned))
}

/// A value that came, for a script: numbers and times are numbers, addresses are written out.
pub fn decode(attribute: &Attribute, bytes: &[u8]) -> Value {
    let as_text = || Value::Text(bytes.to_vec());
    match attribute.kind {
        Kind::Int(_) | Kind::Date if (1..=8).contains(&bytes.len()) => {
            let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            let is_tagged = attribute.tagged && bytes.len() == 4;
            Value::Int(if is_tagged { number & 0x00ff_ffff } else { number })
        }
        Kind::Ipv4 | Kind::Ipv6 => match ip(bytes) {
            Some(ip) => Value::Text(ip.to_string().into_bytes()),
            None => as_text(),
        },
        Kind::Ipv6Prefix => match bytes {
            [_, length, start @ ..] if start.len() <= 16 => {
                let mut octets = [0; 16];
                octets.iter_mut().zip(start).for_each(|(place, byte)| *place = *byte);
                Value::Text(format!("{}/{length}", Ipv6Addr::from(octets)).into_bytes())
            }
            _ => as_text(),
        },
        _ => as_text(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "ATTRIBUTE T 1 string\nATTRIBUTE N 2 integer\nATTRIBUTE B 3 byte\n\
        ATTRIBUTE D 4 date\nATTRIBUTE A 5 ipaddr\nATTRIBUTE S 6 ipv6addr\n\
        ATTRIBUTE P 7 ipv6prefix\nATTRIBUTE L 8 integer64\nATTRIBUTE X 9 tlv\n\
        ATTRIBUTE I 1000 string\nVALUE N Two 2\nVENDOR V 9\nATTRIBUTE VT 1 string V\n";

    fn written(name: &str, text: &str) -> Result<Vec<u8>, String> {
        let all = Dictionary::of("d", TEXT);
        avp(&all, attribute(&all, name)?, text.as_bytes()).map(|avp| avp.value)
    }

    fn read(name: &str, text: &str) -> String {
        let all = Dictionary::of("d", TEXT);
        match decode(attribute(&all, name).unwrap(), &written(name, text).unwrap()) {
            Value::Int(number) => number.to_string(),
            Value::Text(text) => String::from_utf8(text).unwrap(),
        }
    }

    #[test]
    fn values_come_back_as_they_were_written() {
        for (name, text, back) in [
            ("T", "a b", "a b"),
            ("N", "7", "7"),
            ("N", "-1", "4294967295"),
            ("N", "two", "2"),
            ("B", "255", "255"),
            ("D", "1700000000", "1700000000"),
            ("A", "10.0.0.1", "10.0.0.1"),
            ("S", "[2001:db8::1]", "2001:db8::1"),
            ("P", "2001:db8::/32", "2001:db8::/32"),
            ("L", "1099511627776", "1099511627776"),
        ] {
            assert_eq!(read(name, text), back, "{name} {text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_name() {
        for (name, text, why) in [
            ("N", "three", "N is a number, or the name of a VALUE, and `three` is none"),
            ("N", "4294967296", "N is of 4 bytes"),
            ("B", "256", "B is of 1 bytes"),
            ("A", "x", "A is an IPv4 address"),
            ("X", "x", "X is of a type"),
            ("I", "x", "I has no number in the dictionary that a packet can carry"),
            ("Z", "x", "the dictionary d has no attribute Z: add a line"),
        ] {
            let told = written(name, text).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
        assert!(written("T", &"x".repeat(253)).is_ok() && written("T", &"x".repeat(254)).is_err());
        assert!(
            written("VT", &"x".repeat(247)).is_ok() && written("VT", &"x".repeat(248)).is_err()
        );
    }

    proptest! {
        #[test]
        fn any_value_is_shown_without_a_panic(name in 0usize..9, bytes: Vec<u8>) {
            let all = Dictionary::of("d", TEXT);
            let name = ["T", "N", "B", "D", "A", "S", "P", "L", "X"][name];
            let _ = decode(all.attribute_named(name).unwrap(), &bytes);
            let _ = avp(&all, all.attribute_named(name).unwrap(), &bytes);
        }
    }
}
