//! What a server does with each test message of RFC 4475 and RFC 5118: one test a message, named
//! after its file. `torture.rs` looks into the messages.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::fs;
use std::path::PathBuf;

use tandem_sip::Message;

/// What becomes of a message before any script or user agent looks at it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is processed.
    Taken,
    /// It is answered with this status.
    Answered(u16),
    /// It is dropped: nobody could be answered, or it is a reply.
    Dropped,
}

use Fate::{Answered, Dropped, Taken};

fn fate(file: &str) -> Fate {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let bytes = fs::read(path).unwrap();
    match Message::parse(bytes.clone().into()) {
        Ok(msg) => match msg.validate() {
            Ok(()) => Taken,
            Err(fault) if msg.is_request() => Answered(fault.status()),
            Err(_) => Dropped,
        },
        Err(_) if Message::salvage(&bytes).is_some() => Answered(400),
        Err(_) => Dropped,
    }
}

macro_rules! each {
    ($module:ident $($name:ident $file:literal $fate:expr;)*) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $name() {
                    assert_eq!(fate(concat!(stringify!($module), "/", $file, ".dat")), $fate);
                }
            )*
        }
    };
}

each! { rfc4475
    // 3.1.1: valid messages.
    wsinv "wsinv" Taken;
    intmeth "intmeth" Taken;
    esc01 "esc01" Taken;
    escnull "escnull" Taken;
    esc02 "esc02" Taken;
    lwsdisp "lwsdisp" Taken;
    longreq "longreq" Taken;
    dblreq "dblreq" Taken;
    semiuri "semiuri" Taken;
    transports "transports" Taken;
    mpart01 "mpart01" Taken;
    unreason "unreason" Taken;
    noreason "noreason" Taken;
    // 3.1.2: invalid ones; where the RFC allows to be liberal, the message is taken.
    badinv01 "badinv01" Answered(400);
    clerr "clerr" Answered(400);
    ncl "ncl" Answered(400);
    scalar02 "scalar02" Answered(400);
    scalarlg "scalarlg" Dropped;
    quotbal "quotbal" Answered(400);
    ltgtruri "ltgtruri" Answered(400);
    lwsruri "lwsruri" Answered(400);
    lwsstart "lwsstart" Taken;
    trws "trws" Taken;
    escruri "escruri" Taken;
    baddate "baddate" Taken;
    regbadct "regbadct" Taken;
    badaspec "badaspec" Taken;
    baddn "baddn" Answered(400);
    badvers "badvers" Answered(505);
    mismatch01 "mismatch01" Answered(400);
    mismatch02 "mismatch02" Answered(400);
    bigcode "bigcode" Dropped;
    // 3.2 and 3.3: for transactions, and for who processes the request.
    badbranch "badbranch" Taken;
    insuf "insuf" Answered(400);
    unkscm "unkscm" Taken;
    novelsc "novelsc" Taken;
    unksm2 "unksm2" Taken;
    bext01 "bext01" Taken;
    invut "invut" Taken;
    regaut01 "regaut01" Taken;
    multi01 "multi01" Answered(400);
    mcl01 "mcl01" Answered(400);
    bcast "bcast" Taken;
    zeromf "zeromf" Taken;
    cparam01 "cparam01" Taken;
    cparam02 "cparam02" Taken;
    regescrt "regescrt" Taken;
    sdp01 "sdp01" Taken;
    // 3.4: RFC 2543.
    inv2543 "inv2543" Taken;
}

each! { rfc5118
    ipv6_good "ipv6-good" Taken;
    ipv6_bad "ipv6-bad" Answered(400);
    port_ambiguous "port-ambiguous" Taken;
    port_unambiguous "port-unambiguous" Taken;
    via_received_param_with_delim "via-received-param-with-delim" Taken;
    via_received_param_no_delim "via-received-param-no-delim" Taken;
    ipv6_in_sdp "ipv6-in-sdp" Taken;
    mult_ip_in_header "mult-ip-in-header" Taken;
    mult_ip_in_sdp "mult-ip-in-sdp" Taken;
    ipv4_mapped_ipv6 "ipv4-mapped-ipv6" Taken;
    ipv6_bug_abnf_3_colons "ipv6-bug-abnf-3-colons" Answered(400);
    ipv6_correct_abnf_2_colons "ipv6-correct-abnf-2-colons" Taken;
}
