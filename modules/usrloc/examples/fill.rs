//! Fills a location table with a million contacts, refreshes them, and says what that took:
//!
//!     cargo run --release -p tandem-usrloc --example fill [contacts]

#![expect(clippy::print_stdout, reason = "the result goes to whoever runs it")]

use tandem_clock::{Chance, Now};
use tandem_usrloc::store::{
    Change, Domain, Matching, NewContact, Origin, Outcome, Replica, Sink, Stamp,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Now = Now { mono_ns: 1_000_000_000_000, unix_ms: 1_800_000_000_000 };

struct Alone;

impl Sink for Alone {
    fn stamp(&self) -> Stamp {
        Stamp { time_us: NOW.unix_ms * 1000, node: 1 }
    }

    fn replicate(&self, _shard: usize, _change: Replica<'_>) {}
}

/// Nanoseconds that this process has computed, whatever else the machine did meanwhile.
fn computed_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Writes all contacts; nanoseconds a contact.
fn write(domain: &Domain, contacts: u32, cseq: u32) -> u64 {
    let started = computed_ns();
    for n in 0..contacts {
        let aor = format!("user{n:07}@sip.example.org");
        let uri = format!("sip:user{n:07}@192.168.{}.{}:5060", n >> 8 & 255, n & 255);
        let call_id =
            format!("{:016x}{n:08x}@192.168.1.10", u64::from(n).wrapping_mul(0x9e37_79b9));
        let agent = format!("Vendor Model-{}/1.2.{}", n % 40, n % 7);
        let received = format!("sip:203.0.{}.{}:{}", n >> 8 & 255, n & 255, 1024 + n % 60_000);
        let contact = NewContact {
            uri: uri.as_bytes(),
            call_id: call_id.as_bytes(),
            user_agent: agent.as_bytes(),
            received: received.as_bytes(),
            socket: b"udp:198.51.100.20:5060",
            branch_flags: b"RM_ON_TIMEOUT SIP_PING NAT",
            key_values: br#"{"_st":"service"}"#,
            expires_s: NOW.unix_s() + 3000 + u64::from(n % 600) + u64::from(cseq),
            last_modified_s: NOW.unix_s(),
            cseq,
            ..NewContact::default()
        };
        let change = Change::Put { contact, matching: &Matching::Uri };
        let put = domain.edit(aor.as_bytes(), NOW, Origin::Local, &Alone, |e| e.apply(change));
        assert!(!matches!(put.0, Outcome::Ignored(_)), "{:?}", put.0);
    }
    (computed_ns() - started) / u64::from(contacts.max(1))
}

fn main() {
    let contacts = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let domain = Domain::new("location", 9, false, &mut Chance::from_number(1));
    let before = resident();
    let insert_ns = write(&domain, contacts, 1);
    let bytes = (resident() - before) / contacts.max(1) as usize;
    let refresh_ns = write(&domain, contacts, 2);
    let after = (resident() - before) / contacts.max(1) as usize;
    let started = computed_ns();
    let digests = domain.digests(NOW.unix_s());
    let digest_us = (computed_ns() - started) / 1000;
    println!("{contacts} contacts: {bytes} bytes each, {after} after a refresh of all");
    println!("{insert_ns} ns to insert one, {refresh_ns} ns to refresh one");
    println!("{digest_us} us for the digests of {} contacts", digests.count);
}
