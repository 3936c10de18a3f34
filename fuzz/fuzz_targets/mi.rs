//! Any management request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_engine::mi::parse_request;

fuzz_target!(|data: &[u8]| {
    let _ = parse_request(data);
});
