//! Every entry of the table, with a check that uses it and sees the difference.

#![allow(clippy::unwrap_used, reason = "a test stops where it finds something unexpected")]

#[path = "exports/calls.rs"]
mod calls;
#[path = "exports/cluster.rs"]
mod cluster;
#[path = "exports/functions.rs"]
mod functions;
#[path = "exports/management.rs"]
mod management;
#[path = "exports/params.rs"]
mod params;
#[path = "exports/world.rs"]
mod world;

use tandem_engine::testing::cover;

#[test]
fn every_entry_has_a_check() {
    cover(
        &tandem_load_balancer::MODULE,
        &[
            ("param db_url", params::database),
            ("param db_table", params::database),
            ("param probing_interval", params::probing),
            ("param probing_verbose", params::verbose),
            ("param probing_method", params::requests),
            ("param probing_from", params::requests),
            ("param probing_reply_codes", params::codes),
            ("param lb_define_blacklist", params::blacklists),
            ("param cluster_id", cluster::replicated),
            ("param cluster_sharing_tag", cluster::who_probes),
            ("param fetch_freeswitch_stats", params::freeswitch),
            ("param initial_freeswitch_load", params::freeswitch),
            ("function lb_start", functions::start),
            ("function lb_start_or_next", functions::start_or_next),
            ("function load_balance", functions::start_or_next),
            ("function lb_next", functions::next),
            ("function lb_reset", functions::reset),
            ("function lb_is_started", functions::reset),
            ("function lb_disable_dst", functions::disable),
            ("function lb_is_destination", functions::is_destination),
            ("function lb_count_call", functions::count_call),
            ("mi load_balancer:reload", management::reload),
            ("mi load_balancer:resize", management::resize),
            ("mi load_balancer:list", management::list),
            ("mi load_balancer:refused", management::refused),
            ("mi load_balancer:status", management::status),
            ("event E_LOAD_BALANCER_STATUS", functions::disable),
        ],
    );
}

#[test]
fn hostile_rows_are_refused_one_by_one() {
    management::hostile();
}

#[test]
fn what_an_operator_wants_outlasts_probes() {
    cluster::operator();
}

#[test]
fn after_a_split_the_nodes_agree() {
    cluster::split();
}

#[test]
fn the_holder_of_the_tag_tells_states() {
    cluster::holder_tells();
}

#[test]
fn a_call_that_ends_is_no_load() {
    calls::end();
}

#[test]
fn loads_survive_the_node_that_has_the_calls() {
    calls::survive();
}
