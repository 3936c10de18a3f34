//! A DNS server with a zone of a few lines, and a silence for the rest.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is said of a name. A name that is not in the zone does not exist.
#[derive(Clone, Debug)]
pub enum Said {
    /// Addresses (A).
    Ips(Vec<Ipv4Addr>),
    /// Servers (SRV): priority, port, target.
    Servers(Vec<(u16, u16, String)>),
    /// Nothing at all is answered.
    Nothing,
}

/// The running server; it ends with the test.
#[derive(Debug)]
pub struct DnsServer {
    pub addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    zone: Arc<Mutex<BTreeMap<String, Said>>>,
}

impl DnsServer {
    /// Serves a zone from an address.
    ///
    /// # Panics
    /// If the address cannot be used.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
    pub fn start(at: Ipv4Addr, zone: &[(&str, Said)]) -> Self {
        let socket = UdpSocket::bind((at, 0)).expect("a socket for the DNS");
        let addr = socket.local_addr().expect("its address");
        let zone: BTreeMap<String, Said> =
            zone.iter().map(|(name, said)| ((*name).to_owned(), said.clone())).collect();
        let zone = Arc::new(Mutex::new(zone));
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, said) = (Arc::clone(&asked), Arc::clone(&zone));
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                count.fetch_add(1, Ordering::Relaxed);
                let zone = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(answer) = answer(&query[..length], &zone) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { addr, asked, zone }
    }

    /// Something else is said of a name from now on. What was said before holds for a second.
    pub fn set(&self, name: &str, said: Said) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.insert(name.to_owned(), said);
    }

    /// How many questions came.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The answer to a query, as bytes; `None`: silence.
fn answer(query: &[u8], zone: &BTreeMap<String, Said>) -> Option<Vec<u8>> {
    let (name, end) = name_at(query, 12)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let records: Vec<(u16, Vec<u8>)> = match zone.get(&name) {
        None => return Some(message(query, end + 4, 3, &[])),
        Some(Said::Nothing) => return None,
        Some(Said::Ips(ips)) => ips.iter().map(|ip| (1, ip.octets().to_vec())).collect(),
        Some(Said::Servers(servers)) => {
            servers.iter().map(|(priority, port, to)| (33, server(*priority, *port, to))).collect()
        }
    };
    let wanted: Vec<(u16, Vec<u8>)> = records.into_iter().filter(|(k, _)| *k == kind).collect();
    Some(message(query, end + 4, 0, &wanted))
}

fn message(query: &[u8], question_end: usize, code: u8, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    out.extend(&query[12..question_end]);
    for (kind, data) in records {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 1]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}

fn server(priority: u16, port: u16, target: &str) -> Vec<u8> {
    let mut out = priority.to_be_bytes().to_vec();
    out.extend([0, 0]);
    out.extend(port.to_be_bytes());
    for label in target.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

/// The name at a place of a message, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).into_owned());
        at += length;
    }
}
