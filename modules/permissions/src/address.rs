//! The table of addresses in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use regex::bytes::Regex;
use tandem_db::{Row, Rows, Value};
use tandem_engine::glob;

/// A row.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// 0: every group.
    pub(crate) group: i64,
    pub(crate) ip: IpAddr,
    pub(crate) bits: u8,
    /// 0: every port.
    pub(crate) port: u16,
    /// Lower case; `any`: every one.
    pub(crate) proto: String,
    pub(crate) pattern: Option<String>,
    matcher: Option<Regex>,
    pub(crate) info: Option<String>,
}

/// What is asked about one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    /// 0: any group.
    pub(crate) group: i64,
    pub(crate) ip: IpAddr,
    /// 0: any port.
    pub(crate) port: u16,
    /// Lower case; `any`: any one.
    pub(crate) proto: &'a str,
    pub(crate) pattern: Option<&'a [u8]>,
}

/// The rows, by prefix: the longest one that matches counts first, rows of one prefix in the
/// order of the table.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_prefix: BTreeMap<(u8, IpAddr), Vec<Entry>>,
    /// The lengths that occur, the longest first.
    lengths: Vec<u8>,
}

impl Addresses {
    /// From rows of group, address, mask, port, protocol, pattern and info, in this order; and
    /// what is wrong with those that were left out.
    pub(crate) fn of(rows: &Rows) -> (Self, Vec<String>) {
        let mut table = Self::default();
        let mut faults = Vec::new();
        for row in &rows.rows {
            match read(row) {
                Ok(entry) => {
                    let key = (entry.bits, masked(entry.ip, entry.bits));
                    table.by_prefix.entry(key).or_default().push(entry);
                }
                Err(why) => faults.push(why),
            }
        }
        let mut lengths: Vec<u8> = table.by_prefix.keys().map(|(bits, _)| *bits).collect();
        lengths.dedup();
        lengths.reverse();
        table.lengths = lengths;
        (table, faults)
    }

    /// The first row that fits.
    pub(crate) fn find(&self, asked: &Question<'_>) -> Option<&Entry> {
        self.lengths.iter().find_map(|bits| {
            let rows = self.by_prefix.get(&(*bits, masked(asked.ip, *bits)))?;
            rows.iter().find(|entry| entry.fits(asked))
        })
    }

    /// Whether any row is of a group.
    pub(crate) fn knows(&self, group: i64) -> bool {
        group == 0 || self.iter().any(|e| e.group == group || e.group == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.by_prefix.values().flatten()
    }
}

impl Entry {
    /// Whether the row is of one address alone.
    pub(crate) fn is_host(&self) -> bool {
        self.bits == full(self.ip)
    }

    /// The netmask as an address.
    pub(crate) fn mask(&self) -> IpAddr {
        match self.ip {
            IpAddr::V4(_) => masked(IpAddr::from([0xff; 4]), self.bits),
            IpAddr::V6(_) => masked(IpAddr::from([0xff; 16]), self.bits),
        }
    }

    fn fits(&self, asked: &Question<'_>) -> bool {
        (self.group == asked.group || self.group == 0 || asked.group == 0)
            && (self.port == asked.port || self.port == 0 || asked.port == 0)
            && (self.proto == asked.proto || self.proto == "any" || asked.proto == "any")
            && match (&self.matcher, asked.pattern) {
                (Some(matcher), Some(pattern)) => matcher.is_match(pattern),
                _ => true,
            }
    }
}

fn read(row: &Row) -> Result<Entry, String> {
    let [group, ip, mask, port, proto, pattern, info] = row.as_slice() else {
        return Err("a row has not the seven columns".into());
    };
    let text = ip.as_str().unwrap_or_default().trim();
    let ip: IpAddr = text
        .trim_matches(['[', ']'])
        .parse()
        .map_err(|_| format!("`{text}` is not an IP address: names are not looked up here"))?;
    let number = |value: &Value, what: &str| {
        let wrong = || format!("{text}: the {what} is not a number");
        if value.is_null() { Ok(None) } else { value.as_int().map(Some).ok_or_else(wrong) }
    };
    let bits = number(mask, "mask")?.unwrap_or_else(|| full(ip).into());
    // 32, the default of the column, means one address also where addresses are longer.
    let bits = match u8::try_from(bits).ok().filter(|bits| *bits <= full(ip)) {
        Some(32) if ip.is_ipv6() && has_host_part(ip) => full(ip),
        Some(bits) => bits,
        None => return Err(format!("{text}: a mask of {bits} bits is too long")),
    };
    let port = number(port, "port")?.unwrap_or(0);
    let port = u16::try_from(port).map_err(|_| format!("{text}: {port} is no port"))?;
    let optional = |value: &Value| value.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let pattern = optional(pattern);
    let matcher = match &pattern {
        Some(pattern) => Some(glob::compile(pattern).map_err(|why| format!("{text}: {why}"))?),
        None => None,
    };
    Ok(Entry {
        group: number(group, "group")?.unwrap_or(0),
        ip,
        bits,
        port,
        proto: optional(proto).unwrap_or_else(|| "any".into()).trim().to_ascii_lowercase(),
        pattern,
        matcher,
        info: optional(info),
    })
}

fn full(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn has_host_part(ip: IpAddr) -> bool {
    masked(ip, 32) != ip
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::from((ip.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::from((ip.to_bits() & mask).to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(group: i64, ip: &str, mask: i64, pattern: Option<&str>) -> Row {
        let [port, proto, info] = [Value::Int(0), "ANY".into(), "i".into()];
        vec![group.into(), ip.into(), mask.into(), port, proto, pattern.into(), info]
    }

    fn table(rows: Vec<Row>) -> Addresses {
        let (table, faults) = Addresses::of(&Rows { rows, ..Rows::default() });
        assert!(faults.is_empty(), "{faults:?}");
        table
    }

    fn group_of(table: &Addresses, ip: &str) -> Option<i64> {
        let ip = ip.parse().unwrap();
        let asked = Question { group: 0, ip, port: 5060, proto: "udp", pattern: None };
        table.find(&asked).map(|e| e.group)
    }

    #[test]
    fn the_longest_prefix_counts_first() {
        let table = table(vec![
            row(1, "10.0.0.0", 8, None),
            row(2, "10.1.0.0", 16, None),
            row(3, "10.1.1.1", 32, None),
            row(4, "2001:db8::", 32, None),
            row(5, "2001:db8::5", 32, None),
        ]);
        for (ip, group) in [
            ("10.1.1.1", Some(3)),
            ("10.1.1.2", Some(2)),
            ("10.2.0.1", Some(1)),
            ("11.0.0.1", None),
            ("2001:db8::1", Some(4)),
            ("2001:db8::5", Some(5)),
        ] {
            assert_eq!(group_of(&table, ip), group, "{ip}");
        }
    }

    #[test]
    fn rows_that_mean_nothing_are_told() {
        let rows = vec![row(1, "gw.example.org", 32, None), row(1, "10.0.0.1", 33, None)];
        let (table, faults) = Addresses::of(&Rows { rows, ..Rows::default() });
        assert_eq!((table.iter().count(), faults.len()), (0, 2));
    }

    proptest! {
        #[test]
        fn an_address_is_in_every_prefix_of_itself(ip in any::<u32>(), bits in 0i64..=32) {
            let ip = IpAddr::from(ip.to_be_bytes());
            let table = table(vec![row(7, &ip.to_string(), bits, None)]);
            prop_assert_eq!(group_of(&table, &ip.to_string()), Some(7));
        }

        #[test]
        fn no_row_panics(ip in "[0-9a-f:.]{0,20}", mask in any::<i64>(), p in "[ -~]{0,9}") {
            let rows = vec![row(1, &ip, mask, Some(&p))];
            let _ = Addresses::of(&Rows { rows, ..Rows::default() });
        }
    }
}
