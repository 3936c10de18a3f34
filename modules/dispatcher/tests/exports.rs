//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "exports/cluster.rs"]
mod cluster;
#[path = "exports/functions.rs"]
mod functions;
#[path = "exports/params.rs"]
mod params;
#[path = "exports/world.rs"]
mod world;

use tandem_engine::testing::cover;

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_dispatcher::MODULE,
        &[
            ("param partition", params::partitions),
            ("param db_url", params::database),
            ("param table_name", params::names),
            ("param setid_col", params::names),
            ("param destination_col", params::names),
            ("param socket_col", params::names),
            ("param state_col", params::names),
            ("param weight_col", params::names),
            ("param priority_col", params::names),
            ("param attrs_col", params::names),
            ("param description_col", params::names),
            ("param probe_mode_col", params::names),
            ("param dst_avp", params::avps),
            ("param grp_avp", params::avps),
            ("param cnt_avp", params::avps),
            ("param sock_avp", params::avps),
            ("param attrs_avp", params::avps),
            ("param script_attrs_avp", params::avps),
            ("param hash_pvar", functions::algorithms),
            ("param setid_pvar", functions::in_list),
            ("param algo_route", functions::by_route),
            ("param pvar_algo_pattern", functions::algorithms),
            ("param ds_probing_threshold", params::probing),
            ("param ds_ping_method", params::probes_differ),
            ("param ds_ping_from", params::probes_differ),
            ("param ds_ping_interval", params::probing),
            ("param ds_ping_maxfwd", params::probes_differ),
            ("param ds_probing_mode", params::probing),
            ("param options_reply_codes", params::probing),
            ("param ds_probing_sock", params::probes_differ),
            ("param ds_probing_list", params::probes_differ),
            ("param ds_define_blacklist", params::blacklists),
            ("param persistent_state", params::persistence),
            ("param fetch_freeswitch_stats", params::freeswitch),
            ("param max_freeswitch_weight", params::freeswitch),
            ("param cluster_id", cluster::replicated),
            ("param cluster_sharing_tag", cluster::holder_tells),
            ("param cluster_probing_mode", cluster::who_probes),
            ("function ds_select_dst", functions::select),
            ("function ds_select_domain", functions::select),
            ("function ds_next_dst", functions::next),
            ("function ds_next_domain", functions::next),
            ("function ds_mark_dst", functions::mark),
            ("function ds_is_in_list", functions::in_list),
            ("function ds_count", functions::mark),
            ("function ds_push_script_attrs", functions::attrs),
            ("function ds_get_script_attrs", functions::attrs),
            ("mi dispatcher:set_state", functions::commands),
            ("mi dispatcher:list", functions::commands),
            ("mi dispatcher:reload", functions::commands),
            ("mi dispatcher:refused", params::refused),
            ("mi dispatcher:push_script_attrs", functions::attrs),
            ("event E_DISPATCHER_STATUS", functions::mark),
        ],
    );
}

#[test]
fn hostile_rows_are_refused_one_by_one() {
    params::hostile();
}

#[test]
fn a_set_may_be_large() {
    params::many();
}

#[test]
fn a_socket_goes_with_its_destination() {
    functions::sockets();
}

#[test]
fn what_an_operator_wants_outlasts_probes() {
    cluster::operator();
}

#[test]
fn after_a_split_the_nodes_agree() {
    cluster::split();
}
