//! Attributes and their names, as the dictionaries of radcli and FreeRADIUS write them.

use std::collections::BTreeMap;

use crate::Fault;

/// Faults of files that are told.
const FAULTS_MAX: usize = 20;
/// Attributes and values, at most.
const ENTRIES_MAX: usize = 100_000;

/// What the value of an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Octets,
    /// Of so many bytes.
    Int(u8),
    /// Seconds of Unix.
    Date,
    Ipv4,
    Ipv6,
    Ipv6Prefix,
    /// Others, which are not written or read here.
    Other,
}

impl Kind {
    /// Whether values are texts.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Octets)
    }

    fn named(name: &str) -> Self {
        let name = name.split('[').next().unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "string" | "text" | "secret" => Self::Text,
            "octets" | "abinary" => Self::Octets,
            "integer" | "uint32" | "signed" => Self::Int(4),
            "short" | "uint16" => Self::Int(2),
            "byte" | "uint8" => Self::Int(1),
            "integer64" | "uint64" => Self::Int(8),
            "date" | "time" => Self::Date,
            "ipaddr" | "ipv4addr" => Self::Ipv4,
            "ipv6addr" => Self::Ipv6,
            "ipv6prefix" => Self::Ipv6Prefix,
            _ => Self::Other,
        }
    }
}

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    /// 0: one of the RFCs.
    pub vendor: u32,
    /// `None`: a number that no packet can carry.
    pub number: Option<u8>,
    pub kind: Kind,
    /// Hidden as User-Password is.
    pub hidden: bool,
    /// The first byte of a number is a tag: RFC 2868 3.
    pub tagged: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    /// Its first file.
    pub(crate) file: String,
    /// By the name in small letters.
    attributes: BTreeMap<String, Attribute>,
    names: BTreeMap<(u32, u8), String>,
    /// Names of numbers, by those of their attribute.
    values: BTreeMap<String, Vec<(String, u64)>>,
    vendors: BTreeMap<String, Vendor>,
    entries: usize,
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug)]
struct Vendor {
    number: u32,
    /// Its attributes have a byte for their number and one for their length.
    is_plain: bool,
}

/// What a dictionary is inside of, line by line.
#[derive(Debug, Default)]
struct Place {
    vendor: Option<Vendor>,
    /// How many BEGIN-TLV are open.
    depth: u32,
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Nothing,
    /// Another file; `false`: it may be missing.
    Include(&'a str, bool),
}

impl Dictionary {
    /// An empty one whose first file this is.
    pub(crate) fn named(file: &str) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// Of one text without other files.
    pub fn of(file: &str, text: &str) -> Self {
        let mut dictionary = Self::named(file);
        dictionary.read(file, text, &mut |_, _, _, _| {});
        dictionary
    }

    /// Reads a text; `include` is called where another file stands, with the line, whether it must be
    /// there, and its name.
    pub(crate) fn read(
        &mut self,
        file: &str,
        text: &str,
        include: &mut dyn FnMut(&mut Self, usize, bool, &str),
    ) {
        let mut place = Place::default();
        for (at, line) in text.lines().enumerate() {
            match include_of(line) {
                Line::Include(name, is_needed) => include(self, at + 1, is_needed, name),
                Line::Nothing => {
                    if let Err(text) = self.line(line, &mut place) {
                        self.fault(file, at + 1, text);
                    }
                }
            }
        }
    }

    pub(crate) fn fault(&mut self, file: &str, line: usize, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { file: file.to_owned(), line, text });
        }
    }

    /// Lines that could not be read; nothing else is wrong with the dictionary.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    fn line(&mut self, line: &str, place: &mut Place) -> Result<(), String> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { return Ok(()) };
        let mut word =
            |what: &str| words.next().ok_or_else(|| format!("{keyword}: {what} is missing"));
        match keyword.to_ascii_uppercase().as_str() {
            "ATTRIBUTE" => {
                let (name, number, kind) = (word("a name")?, word("a number")?, word("a type")?);
                self.attribute(name, number, kind, &words.collect::<Vec<_>>(), place)
            }
            "VALUE" => {
                let (of, name, number) =
                    (word("an attribute")?, word("a name")?, word("a number")?);
                let number = parse(number).ok_or_else(|| format!("`{number}` is no number"))?;
                self.count()?;
                let values = self.values.entry(of.to_ascii_lowercase()).or_default();
                values.push((name.to_owned(), number));
                Ok(())
            }
            "VENDOR" => {
                let (name, number) = (word("a name")?, word("a number")?);
                let number = parse(number).and_then(|n| n.try_into().ok());
                let number = number.ok_or("the number of a vendor is wanted")?;
                let format = words.find_map(|word| word.strip_prefix("format="));
                let is_plain = format.is_none_or(|format| format == "1,1");
                self.count()?;
                self.vendors.insert(name.to_ascii_lowercase(), Vendor { number, is_plain });
                Ok(())
            }
            "BEGIN-VENDOR" => {
                place.vendor = Some(self.vendor(word("a vendor")?)?);
                Ok(())
            }
            "END-VENDOR" => {
                place.vendor = None;
                Ok(())
            }
            "BEGIN-TLV" => {
                place.depth += 1;
                Ok(())
            }
            "END-TLV" => {
                place.depth = place.depth.saturating_sub(1);
                Ok(())
            }
            _ => Err(format!(
                "`{keyword}` is none of ATTRIBUTE, VALUE, VENDOR, BEGIN-VENDOR, END-VENDOR and \
                 $INCLUDE"
            )),
        }
    }

    fn attribute(
        &mut self,
        name: &str,
        number: &str,
        kind: &str,
        rest: &[&str],
        place: &Place,
    ) -> Result<(), String> {
        // What lies inside of others has a number with dots, or in a block of its own.
        let is_inner = place.depth > 0 || number.contains('.');
        let number = match is_inner {
            true => None,
            false => Some(parse(number).ok_or_else(|| format!("`{number}` is no number"))?),
        };
        let mut vendor = place.vendor;
        let (mut hidden, mut tagged, mut can_be_hidden) = (false, false, true);
        for flag in rest.iter().flat_map(|word| word.split(',')) {
            match flag {
                "encrypt=1" => hidden = true,
                "has_tag" => tagged = true,
                flag if flag.starts_with("encrypt=") => can_be_hidden = false,
                // radcli names the vendor there.
                name => vendor = self.vendor(name).ok().or(vendor),
            }
        }
        let is_plain = vendor.is_none_or(|vendor| vendor.is_plain) && can_be_hidden;
        let number = number.filter(|_| is_plain).and_then(|number| u8::try_from(number).ok());
        let vendor = vendor.map_or(0, |vendor| vendor.number);
        // Old dictionaries do not say it.
        hidden |= vendor == 0 && number == Some(2);
        let kind = Kind::named(kind);
        let key = name.to_ascii_lowercase();
        self.count()?;
        if let Some(number) = number.filter(|number| *number > 0) {
            self.names.insert((vendor, number), key.clone());
        }
        let attribute = Attribute { name: name.to_owned(), vendor, number, kind, hidden, tagged };
        self.attributes.insert(key, attribute);
        Ok(())
    }

    fn vendor(&self, name: &str) -> Result<Vendor, String> {
        let found = self.vendors.get(&name.to_ascii_lowercase()).copied();
        found.ok_or_else(|| format!("the vendor {name} is not defined before this line"))
    }

    fn count(&mut self) -> Result<(), String> {
        self.entries += 1;
        match self.entries > ENTRIES_MAX {
            true => Err(format!("more than {ENTRIES_MAX} entries are not read")),
            false => Ok(()),
        }
    }

    /// The attribute with this name, in any case.
    pub fn attribute_named(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(&name.to_ascii_lowercase())
    }

    /// The attribute that a packet means.
    pub fn attribute_numbered(&self, vendor: u32, number: u8) -> Option<&Attribute> {
        self.attributes.get(self.names.get(&(vendor, number))?)
    }

    /// The number of a value with a name, in any case.
    pub fn value(&self, attribute: &str, name: &str) -> Option<u64> {
        let values = self.values.get(&attribute.to_ascii_lowercase())?.iter();
        // The last definition counts.
        let mut found = values.rev().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, number)| *number)
    }

    /// The names of all attributes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.values().map(|attribute| attribute.name.as_str())
    }
}

/// The file that a line names.
pub(crate) fn include_of(line: &str) -> Line<'_> {
    let mut words = line.split_ascii_whitespace();
    let is_needed = match words.next() {
        Some(word) if word.eq_ignore_ascii_case("$INCLUDE") => true,
        Some(word) if word.eq_ignore_ascii_case("$INCLUDE-") => false,
        _ => return Line::Nothing,
    };
    words.next().map_or(Line::Nothing, |name| Line::Include(name, is_needed))
}

fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "# of a test\n\
        ATTRIBUTE\tUser-Name\t1\tstring\n\
        ATTRIBUTE User-Password 2 string\n\
        ATTRIBUTE Service-Type 6 integer\n\
        VALUE Service-Type Sip-Session 15 # draft\n\
        VALUE Service-Type Group-Check 0x0c\n\
        ATTRIBUTE Digest-Realm 1063 string\n\
        ATTRIBUTE Frag 241.1 integer\n\
        VENDOR Cisco 9\nBEGIN-VENDOR Cisco\nATTRIBUTE Cisco-AVPair 1 string\nEND-VENDOR Cisco\n\
        VENDOR Old 311 Old\nATTRIBUTE Old-Thing 7 octets[16] Old\n\
        VENDOR Wide 4 format=2,1\nATTRIBUTE Wide-Thing 7 octets Wide\n\
        ATTRIBUTE Tunnel 64 integer has_tag,encrypt=2\n";

    #[test]
    fn attributes_are_found_by_name_and_number() {
        let all = Dictionary::of("d", TEXT);
        assert_eq!(all.faults(), []);
        let named = |name: &str| {
            let found = all.attribute_named(name).unwrap();
            (found.vendor, found.number, found.kind, found.hidden)
        };
        assert_eq!(named("user-name"), (0, Some(1), Kind::Text, false));
        assert_eq!(named("User-Password"), (0, Some(2), Kind::Text, true));
        assert_eq!(named("Digest-Realm"), (0, None, Kind::Text, false));
        assert_eq!(named("Frag"), (0, None, Kind::Int(4), false));
        assert_eq!(named("Cisco-AVPair"), (9, Some(1), Kind::Text, false));
        assert_eq!(named("Old-Thing"), (311, Some(7), Kind::Octets, false));
        assert_eq!(named("Wide-Thing"), (4, None, Kind::Octets, false));
        assert_eq!(named("Tunnel"), (0, None, Kind::Int(4), false));
        assert_eq!(all.attribute_numbered(9, 1).unwrap().name, "Cisco-AVPair");
        assert_eq!(all.value("service-type", "SIP-SESSION"), Some(15));
        assert_eq!(all.value("Service-Type", "Group-Check"), Some(12));
        assert_eq!(all.value("Service-Type", "x"), None);
    }

    #[test]
    fn lines_that_are_none_are_named() {
        let text =
            "ATTRIBUTE\nATTRIBUTE a x string\nFOO a\nBEGIN-VENDOR x\nVALUE a b c\nVENDOR a x";
        let all = Dictionary::of("/d", text);
        let faults: Vec<String> = all.faults().iter().map(ToString::to_string).collect();
        let expected = [
            "/d:1: ATTRIBUTE: a name is missing",
            "/d:2: `x` is no number",
            "/d:3: `FOO` is none of",
            "/d:4: the vendor x is not defined before",
            "/d:5: `c` is no number",
            "/d:6: the number of a vendor is wanted",
        ];
        assert_eq!(faults.len(), expected.len());
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            text in "(ATTRIBUTE|VALUE|VENDOR|BEGIN-VENDOR|\\$INCLUDE|1|0x| |\n|a|\\PC){0,40}"
        ) {
            let _ = Dictionary::of("d", &text);
        }
    }
}
