//! A door: one configuration file, with its dictionary and the requests to its servers.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_clock::Mono;
use tandem_engine::module::Cx;
use tandem_engine::sockets::Proto;
use tandem_radius::client::Client;
use tandem_radius::config::Config;
use tandem_radius::dictionary::Dictionary;
use tandem_radius::packet::Avp;
use tandem_radius::value;
use tandem_script::nearest;

use crate::load::Loading;

/// Numbers of RFC 2865 5.4 and 5.32, RFC 3162 2.1.
const NAS_IP_ADDRESS: u8 = 4;
const NAS_IDENTIFIER: u8 = 32;
const NAS_IPV6_ADDRESS: u8 = 95;

/// An attribute that somebody needs, and who.
pub(crate) struct Need {
    pub(crate) attribute: String,
    pub(crate) by: String,
}

/// See the module.
pub(crate) struct Door {
    pub(crate) path: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) loading: Loading,
    /// `None`: its files are not read yet.
    pub(crate) open: Option<Open>,
    /// When a timer will fire for it.
    pub(crate) armed: Mono,
}

/// A door whose files are read.
pub(crate) struct Open {
    pub(crate) dictionary: Arc<Dictionary>,
    pub(crate) client: Client,
    /// Who we are, in every request.
    pub(crate) nas: Vec<Avp>,
    pub(crate) from: Option<IpAddr>,
}

impl Door {
    pub(crate) fn new(path: &str) -> Self {
        let loading = Loading::new(path);
        Self { path: path.to_owned(), needs: Vec::new(), loading, open: None, armed: Mono::MAX }
    }

    /// What a dictionary lacks that somebody needs.
    ///
    /// # Errors
    /// Which attribute that is, and whose.
    pub(crate) fn check(&self, dictionary: &Dictionary) -> Result<(), String> {
        for need in &self.needs {
            if let Err(why) = value::attribute(dictionary, &need.attribute) {
                let near = nearest(&need.attribute, dictionary.names());
                let near = near.filter(|_| dictionary.attribute_named(&need.attribute).is_none());
                let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                return Err(format!("{} needs {}: {why}{near}", need.by, need.attribute));
            }
        }
        Ok(())
    }
}

/// Who we are: RFC 2865 4.1 wants an address or a name in every request.
pub(crate) fn nas(cx: &Cx<'_>, config: &Config) -> Vec<Avp> {
    let avp =
        |number, value: &[u8]| Avp { vendor: 0, number, value: value.to_vec(), hidden: false };
    let mut all = Vec::new();
    if let Some(name) = &config.nas_identifier {
        all.push(avp(NAS_IDENTIFIER, name.as_bytes().get(..253).unwrap_or(name.as_bytes())));
    }
    let sockets = [Proto::Udp, Proto::Tcp].into_iter().flat_map(|p| cx.node.sockets.of(p));
    let own = sockets.map(|socket| socket.1.addr.ip()).find(|ip| !ip.is_unspecified());
    match config.nas_ip.or(config.from).or(own) {
        Some(IpAddr::V4(ip)) => all.push(avp(NAS_IP_ADDRESS, &ip.octets())),
        Some(IpAddr::V6(ip)) => all.push(avp(NAS_IPV6_ADDRESS, &ip.octets())),
        None if all.is_empty() => all.push(avp(NAS_IDENTIFIER, b"tandem")),
        None => {}
    }
    all
}
