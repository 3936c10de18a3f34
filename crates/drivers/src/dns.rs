//! Answers questions about names: from the table of the host, else from the DNS servers that the
//! system names. Both files are read again when they change.
//!
//! Asking never waits: what cannot be said at once comes as a [`Completion`] later. At most
//! [`OPEN_MAX`] questions are open; what comes beyond fails at once.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name as DnsName, RData, RecordType};
use tandem_dns::{Answer, Hosts, Name, Question, Record, RecordKind};
use tokio::sync::{Semaphore, mpsc};

/// Questions that are open at one time.
const OPEN_MAX: usize = 1_024;
/// Records of one answer that are taken.
const RECORDS_MAX: usize = 128;
const HOSTS: &str = "/etc/hosts";

/// The table of the host as it is now; empty if there is none.
#[must_use]
pub fn host_table() -> Hosts {
    std::fs::read(HOSTS).map(|text| Hosts::parse(&text)).unwrap_or_default()
}

const SERVERS: &str = "/etc/resolv.conf";

/// How the DNS is asked.
#[derive(Clone, Debug, Default)]
pub struct DnsOptions {
    /// One wait, and how often it is asked.
    pub timeout_s: u32,
    pub attempts: u32,
    /// Servers used of those that the system names; `None`: all.
    pub servers_max: Option<u32>,
    /// Short names are completed by the search list of the system.
    pub search_list: bool,
    /// Instead of the servers of the system.
    pub servers: Vec<SocketAddr>,
}

/// A late answer.
#[derive(Debug)]
pub struct Completion {
    pub query: u64,
    pub answer: Answer,
}

/// The door to the DNS; it belongs to the thread of a tokio runtime.
pub struct Resolver {
    options: DnsOptions,
    completions: mpsc::Sender<Completion>,
    free: Arc<Semaphore>,
    hosts: Hosts,
    hosts_of: Option<SystemTime>,
    servers: Option<TokioResolver>,
    servers_of: Option<SystemTime>,
}

impl Resolver {
    /// Nothing is opened before the first question.
    pub fn new(options: DnsOptions, completions: mpsc::Sender<Completion>) -> Self {
        Self {
            options,
            completions,
            free: Arc::new(Semaphore::new(OPEN_MAX)),
            hosts: Hosts::default(),
            hosts_of: None,
            servers: None,
            servers_of: None,
        }
    }

    /// Asks. `Some`: this is the answer; otherwise it comes as a [`Completion`].
    pub fn ask(&mut self, query: u64, question: Question) -> Option<Answer> {
        self.refresh();
        if let Some(answer) = self.hosts.answer(&question) {
            return Some(answer);
        }
        let (Some(servers), Ok(permit)) = (&self.servers, self.free.clone().try_acquire_owned())
        else {
            return Some(Answer::failure());
        };
        let (servers, completions) = (servers.clone(), self.completions.clone());
        let search_list = self.options.search_list;
        tokio::spawn(async move {
            let answer = look_up(&servers, &question, search_list).await;
            drop(permit);
            let _ = completions.send(Completion { query, answer }).await;
        });
        None
    }

    /// Reads the files again that have changed.
    fn refresh(&mut self) {
        let changed = |path: &str| Path::new(path).metadata().and_then(|m| m.modified()).ok();
        let hosts_of = changed(HOSTS);
        if hosts_of != self.hosts_of {
            self.hosts_of = hosts_of;
            self.hosts = host_table();
        }
        let servers_of = changed(SERVERS);
        if self.servers.is_none() || servers_of != self.servers_of {
            self.servers_of = servers_of;
            self.servers = self.open();
        }
    }

    fn open(&self) -> Option<TokioResolver> {
        let (config, mut options) = if self.options.servers.is_empty() {
            hickory_resolver::system_conf::read_system_conf().ok()?
        } else {
            let servers = self.options.servers.iter().map(|addr| {
                let mut server = NameServerConfig::udp_and_tcp(addr.ip());
                for connection in &mut server.connections {
                    connection.port = addr.port();
                }
                server
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            (config, ResolverOpts::default())
        };
        let (domain, search, mut servers) = config.into_parts();
        if let Some(max) = self.options.servers_max {
            servers.truncate(max as usize);
        }
        // What is known is kept by the node itself.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = Duration::from_secs(u64::from(self.options.timeout_s.max(1)));
        options.attempts = self.options.attempts.saturating_sub(1) as usize;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let config = ResolverConfig::from_parts(domain, search, servers);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        builder.build().ok()
    }
}

async fn look_up(servers: &TokioResolver, question: &Question, search_list: bool) -> Answer {
    let Ok(mut name) = DnsName::from_ascii(question.name.as_str()) else {
        return Answer::failure();
    };
    name.set_fqdn(!search_list);
    let kind = match question.kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Srv => RecordType::SRV,
        RecordKind::Naptr => RecordType::NAPTR,
    };
    match servers.lookup(name, kind).await {
        Ok(found) => {
            let answers = found.answers().iter().take(RECORDS_MAX);
            let ttl_s = answers.clone().map(|r| r.ttl).min().unwrap_or(0);
            let records: Vec<Record> = answers.filter_map(|r| record(&r.data)).collect();
            Answer::of(records, ttl_s)
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            Answer::none(none.negative_ttl.unwrap_or(0))
        }
        Err(_) => Answer::failure(),
    }
}

/// A record as the search for SIP servers wants it; others, such as CNAME, are not looked at.
fn record(data: &RData) -> Option<Record> {
    let name = |name: &DnsName| Name::parse(name.to_ascii().as_bytes());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match data {
        RData::A(ip) => Some(Record::Ip(ip.0.into())),
        RData::AAAA(ip) => Some(Record::Ip(ip.0.into())),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name(&srv.target)?,
        }),
        RData::NAPTR(naptr) => Some(Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: name(&naptr.replacement)?,
        }),
        _ => None,
    }
}
