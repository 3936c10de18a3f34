//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "exports/cluster.rs"]
mod cluster;
#[path = "exports/explain.rs"]
mod explain;
#[path = "exports/functions.rs"]
mod functions;
#[path = "exports/kept.rs"]
mod kept;
#[path = "exports/management.rs"]
mod management;
#[path = "exports/params.rs"]
mod params;
#[path = "exports/probes.rs"]
mod probes;
#[path = "exports/world.rs"]
mod world;

use tandem_engine::testing::cover;

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_drouting::MODULE,
        &[
            ("param use_partitions", params::partitions),
            ("param db_partitions_url", params::partitions),
            ("param db_partitions_table", params::partitions),
            ("param db_url", params::database),
            ("param drd_table", params::tables),
            ("param drr_table", params::tables),
            ("param drg_table", params::groups),
            ("param drc_table", params::tables),
            ("param use_domain", params::groups),
            ("param drg_user_col", params::groups),
            ("param drg_domain_col", params::groups),
            ("param drg_grpid_col", params::groups),
            ("param ruri_avp", params::avps),
            ("param gw_id_avp", params::avps),
            ("param gw_priprefix_avp", params::avps),
            ("param gw_sock_avp", params::avps),
            ("param rule_id_avp", params::avps),
            ("param rule_prefix_avp", params::avps),
            ("param carrier_id_avp", params::avps),
            ("param force_dns", params::names),
            ("param default_group", params::groups),
            ("param define_blacklist", params::blacklists),
            ("param probing_interval", probes::probing),
            ("param probing_method", probes::requests),
            ("param probing_from", probes::requests),
            ("param probing_socket", probes::requests),
            ("param probing_reply_codes", probes::codes),
            ("param persistent_state", params::persistence),
            ("param rule_tables_query", params::rule_tables),
            ("param no_concurrent_reload", management::one_reload),
            ("param partition_id_pvar", params::partitions),
            ("param cluster_id", cluster::replicated),
            ("param cluster_sharing_tag", cluster::holder_tells),
            ("param cluster_probing_mode", cluster::who_probes),
            ("param extra_prefix_chars", params::characters),
            ("param extra_id_chars", params::characters),
            ("param gw_socket_filter_mode", params::sockets),
            ("param generate_data_checksum", management::sums),
            ("param enable_restart_persistency", kept::restart),
            ("function do_routing", functions::do_routing),
            ("function route_to_carrier", functions::to_carrier),
            ("function route_to_gw", functions::to_gateway),
            ("function use_next_gw", functions::next),
            ("function is_from_gw", functions::from_gateway),
            ("function goes_to_gw", functions::to_known),
            ("function dr_is_gw", functions::is_gateway),
            ("function dr_disable", functions::disable),
            ("function dr_match", functions::matches),
            ("mi drouting:reload", management::reload),
            ("mi drouting:gw_status", management::gateways),
            ("mi drouting:carrier_status", management::carriers),
            ("mi drouting:number_routing", management::numbers),
            ("mi drouting:reload_status", management::reloads),
            ("mi drouting:enable_probing", probes::probing),
            ("mi drouting:explain", explain::number),
            ("mi drouting:refused", params::hostile),
            ("event E_DROUTING_STATUS", functions::disable),
        ],
    );
}

#[test]
fn hostile_rows_are_refused_one_by_one() {
    params::hostile();
}

#[test]
fn each_reason_is_one_line_that_fits() {
    params::reasons();
}

#[test]
fn rules_that_only_block_do_not_replace_those_that_lead_somewhere() {
    params::only_blocking();
}

#[test]
fn a_rule_without_gateways_blocks() {
    params::empty_list();
}

#[test]
fn what_an_operator_wants_outlasts_probes() {
    cluster::operator();
    cluster::told_before_the_reload();
}

#[test]
fn silence_just_after_a_takeover_disables_nothing() {
    cluster::first_probes();
}

#[test]
fn states_agree_after_a_split() {
    cluster::split();
}

#[test]
fn partitions_are_kept_too() {
    kept::partitions();
}

#[test]
fn every_reason_is_told() {
    explain::reasons();
}
