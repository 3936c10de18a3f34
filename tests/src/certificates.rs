//! Certificates for one test, made by openssl.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use crate::ctl::run;

/// Makes `ca.pem`, and `cert.pem` with `key.pem` for an address, in a folder.
///
/// # Panics
/// If openssl cannot.
pub fn certificates(dir: &Path, ip: IpAddr) {
    std::fs::write(dir.join("san.cnf"), format!("subjectAltName=IP:{ip}\n")).expect("a file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(dir, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    openssl(dir, &format!("req {key} -keyout key.pem -out request.pem -subj /CN=server"));
    openssl(
        dir,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 \
         -extfile san.cnf",
    );
}

fn openssl(dir: &Path, words: &str) {
    let done = run(Command::new("openssl").args(words.split_whitespace()).current_dir(dir));
    assert_eq!(done.status, 0, "openssl {words}: {}", done.stderr);
}
