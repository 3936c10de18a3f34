//! The server: the list of modules, and everything that owns sockets, threads, files and clocks.

pub mod build_info;
pub mod cli;
pub mod docs;
mod hosts;
mod meaning;
pub mod pair;
mod preprocess;
pub mod script;
pub mod server;
pub mod tables;

use tandem_engine::catalogue::Modules;
use tandem_engine::module::ModuleDef;

/// Every module of this build; a module's place in the list is its slot.
pub fn modules() -> Modules {
    static ALL: &[&ModuleDef] = &[
        &tandem_engine::core::CORE,
        &tandem_proto_udp::MODULE,
        &tandem_proto_bin::MODULE,
        &tandem_db_sqlite::MODULE,
        &tandem_db_mysql::MODULE,
        &tandem_db_postgres::MODULE,
        &tandem_mi_fifo::MODULE,
        &tandem_clusterer::MODULE,
        &tandem_sl::MODULE,
        &tandem_tm::MODULE,
        &tandem_rr::MODULE,
        &tandem_maxfwd::MODULE,
        &tandem_signaling::MODULE,
        &tandem_sipmsgops::MODULE,
        &tandem_usrloc::MODULE,
        &tandem_registrar::MODULE,
        &tandem_nathelper::MODULE,
        &tandem_nat_traversal::MODULE,
        &tandem_auth::MODULE,
        &tandem_auth_db::MODULE,
        &tandem_domain::MODULE,
        &tandem_textops::MODULE,
        &tandem_options::MODULE,
        &tandem_cfgutils::MODULE,
        &tandem_statistics::MODULE,
        &tandem_status_report::MODULE,
        &tandem_mi_datagram::MODULE,
        &tandem_httpd::MODULE,
        &tandem_mi_http::MODULE,
        &tandem_event_datagram::MODULE,
        &tandem_proto_tcp::MODULE,
        &tandem_permissions::MODULE,
        &tandem_aaa_radius::MODULE,
        &tandem_alias_db::MODULE,
        &tandem_group::MODULE,
        &tandem_uac_auth::MODULE,
        &tandem_uac::MODULE,
        &tandem_sqlops::MODULE,
        &tandem_avpops::MODULE,
        &tandem_regex::MODULE,
        &tandem_mathops::MODULE,
        &tandem_dialplan::MODULE,
        &tandem_json::MODULE,
        &tandem_pike::MODULE,
        &tandem_path::MODULE,
        &tandem_cachedb_local::MODULE,
        &tandem_topology_hiding::MODULE,
        &tandem_exec::MODULE,
        &tandem_uac_redirect::MODULE,
        &tandem_prometheus::MODULE,
        &tandem_event_routing::MODULE,
        &tandem_ratelimit::MODULE,
        &tandem_drouting::MODULE,
        &tandem_qrouting::MODULE,
        &tandem_dispatcher::MODULE,
        &tandem_xcap::MODULE,
        &tandem_presence_xml::MODULE,
        &tandem_presence_dialoginfo::MODULE,
        &tandem_pua::MODULE,
        &tandem_pua_dialoginfo::MODULE,
        &tandem_load_balancer::MODULE,
        &tandem_dialog::MODULE,
        &tandem_acc::MODULE,
        &tandem_presence::MODULE,
        &tandem_presence_mwi::MODULE,
        &tandem_freeswitch::MODULE,
    ];
    ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_has_the_tables_of_every_module() {
        let all = tandem_db::schema::tables();
        let missing: Vec<&str> = modules()
            .iter()
            .map(|module| module.name)
            .filter(|name| all.iter().any(|table| table.group == *name))
            .filter(|name| !tandemctl::database::GROUPS.contains(name))
            .collect();
        assert!(missing.is_empty(), "`tandemctl db create` leaves out {missing:?}");
    }
}
