//! Phones behind a NAT, and who calls them: `natted keep IP SERVICE COUNT`,
//! `natted call IP SERVICE COUNT`.
//!
//! `keep` registers `p0`, `p1`, ... once, says `registered`, and never sends anything of itself
//! again. `call` calls each of them, hangs up, and fails if one is not reached.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use tandem_tests::Phone;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((what, ip, service, count)) = plan(&words) else {
        eprintln!("natted keep|call IP SERVICE COUNT");
        return ExitCode::from(2);
    };
    let at = |port: u16| SocketAddr::new(ip, port);
    if what == "call" {
        let caller = Phone::new("caller", at(5060));
        for n in 0..count {
            caller.call(service, &format!("p{n}")).hang_up();
            println!("reached p{n}");
        }
        return ExitCode::SUCCESS;
    }
    let phones: Vec<Phone> =
        (0..count).map(|n| Phone::that_rings(&format!("p{n}"), at(5070 + n))).collect();
    for phone in &phones {
        phone.register_ok(service);
    }
    println!("registered");
    loop {
        std::thread::park();
    }
}

fn plan(words: &[String]) -> Option<(&str, IpAddr, SocketAddr, u16)> {
    let [what, ip, service, count] = words else { return None };
    let is_known = matches!(what.as_str(), "keep" | "call");
    is_known.then_some(())?;
    Some((what, ip.parse().ok()?, service.parse().ok()?, count.parse().ok()?))
}
