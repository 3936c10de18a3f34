//! The table of the host: `/etc/hosts`.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::name::{Name, Question, RecordKind};
use crate::{Answer, Record};

/// Lines that are read of a file, at most.
const LINES_MAX: usize = 100_000;
/// How long a line of the table is believed: it may be edited.
const TTL_S: u32 = 5;

/// Addresses by name, as the host's administrator wrote them.
#[derive(Clone, Debug, Default)]
pub struct Hosts(HashMap<Name, Vec<IpAddr>>);

impl Hosts {
    /// Reads the text of such a file. A line that cannot be read is skipped.
    pub fn parse(text: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in text.split(|b| *b == b'\n').take(LINES_MAX) {
            let line = line.split(|b| *b == b'#').next().unwrap_or_default();
            let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
            let ip = words.next().and_then(|w| std::str::from_utf8(w).ok()?.parse().ok());
            let Some(ip): Option<IpAddr> = ip else { continue };
            for name in words.filter_map(Name::parse) {
                let ips = hosts.0.entry(name).or_default();
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
        }
        hosts
    }

    /// The answer to a question. A name of the table is asked of nobody else, in no family.
    pub fn answer(&self, question: &Question) -> Option<Answer> {
        let wanted = |ip: &&IpAddr| match question.kind {
            RecordKind::A => ip.is_ipv4(),
            RecordKind::Aaaa => ip.is_ipv6(),
            RecordKind::Srv | RecordKind::Naptr => false,
        };
        let ips = self.0.get(&question.name)?;
        let records: Vec<Record> = ips.iter().filter(wanted).map(|ip| Record::Ip(*ip)).collect();
        Some(Answer { records, ttl_s: TTL_S, failed: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_addresses_of_both_families() {
        let text = b"# table\n127.0.0.1 localhost\n::1 localhost ip6-localhost\n\n\
                     10.0.0.1\tUAS.example.org uas # the phone\r\n10.0.0.2 uas\nbroken line\n";
        let hosts = Hosts::parse(text);
        let ask = |name: &str, kind| {
            let question = Question::new(&Name::parse(name.as_bytes()).unwrap(), kind);
            hosts.answer(&question).map(|a| a.records)
        };
        let ip = |text: &str| Record::Ip(text.parse().unwrap());
        assert_eq!(ask("uas", RecordKind::A), Some(vec![ip("10.0.0.1"), ip("10.0.0.2")]));
        assert_eq!(ask("uas.example.org", RecordKind::Aaaa), Some(vec![]));
        assert_eq!(ask("localhost", RecordKind::Aaaa), Some(vec![ip("::1")]));
        assert_eq!(ask("uas", RecordKind::Srv), Some(vec![]));
        assert_eq!(ask("other", RecordKind::A), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read(text: Vec<u8>) {
            Hosts::parse(&text);
        }
    }
}
