//! The server: the list of modules, and everything that owns sockets, threads, files and clocks.

pub mod cli;
pub mod pair;
pub mod script;
pub mod server;
pub mod tables;

use tandem_engine::catalogue::Modules;
use tandem_engine::module::ModuleDef;

/// Every module of this build; a module's place in the list is its slot.
pub fn modules() -> Modules {
    static ALL: &[&ModuleDef] = &[
        &tandem_engine::core::CORE,
        &tandem_proto_udp::PROTO_UDP,
        &tandem_proto_bin::PROTO_BIN,
        &tandem_db_sqlite::DB_SQLITE,
        &tandem_mi_fifo::MI_FIFO,
        &tandem_clusterer::CLUSTERER,
        &tandem_sl::SL,
        &tandem_tm::TM,
        &tandem_rr::RR,
        &tandem_maxfwd::MAXFWD,
        &tandem_signaling::SIGNALING,
        &tandem_sipmsgops::SIPMSGOPS,
        &tandem_usrloc::USRLOC,
        &tandem_registrar::REGISTRAR,
        &tandem_nathelper::NATHELPER,
    ];
    ALL
}
