//! The script of the hot standby for calls: both nodes in it, the service address on both.

use crate::{SERVICE, Site};

/// The script of a machine that writes records to `cdrs` through `driver`.
pub(super) fn of(site: &Site, host: u8, cdrs: &str, driver: &str) -> String {
    let (other, state) = if host == 1 { (2, "active") } else { (1, "backup") };
    let flags = if host == 1 { ", flags=seed" } else { "" };
    format!(
        r#"log_level = 3
socket = udp:{SERVICE}:5060
socket = bin:10.77.0.{host}:5566
loadmodule "proto_udp.so"
loadmodule "proto_bin.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "sipmsgops.so"
loadmodule "mi_fifo.so"
loadmodule "clusterer.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "{driver}.so"
loadmodule "dialog.so"
loadmodule "acc.so"
modparam("dialog", "dialog_replication_cluster", 1)
modparam("dialog", "profiles_with_value", "callee/b")
modparam("acc", "db_url", "{cdrs}")
modparam("mi_fifo", "fifo_name", "{fifo}")
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", {host})
modparam("clusterer", "my_node_info", "cluster_id=1, url=bin:10.77.0.{host}:5566{flags}")
modparam("clusterer", "neighbor_node_info", "cluster_id=1, node_id={other}, url=bin:10.77.0.{other}:5566")
modparam("clusterer", "ping_interval", 1)
modparam("clusterer", "ping_timeout", 300)
modparam("clusterer", "node_timeout", 2)
modparam("clusterer", "sharing_tag", "service/1={state}")
modparam("usrloc", "working_mode_preset", "full-sharing-cluster")
modparam("usrloc", "location_cluster", 1)
modparam("usrloc", "use_domain", 0)
modparam("usrloc", "pinging_mode", "ownership")
route {{
	if (has_totag()) {{
		if (loose_route()) {{
			t_relay();
			exit;
		}}
		if (is_method("ACK")) {{
			if (t_check_trans()) t_relay();
			exit;
		}}
		send_reply(404, "Not Here");
		exit;
	}}
	if (is_method("CANCEL")) {{
		if (t_check_trans()) t_relay();
		exit;
	}}
	if (is_method("REGISTER")) {{
		save("location", , , "service");
		exit;
	}}
	t_check_trans();
	if (is_method("INVITE")) {{
		create_dialog("bye-on-timeout");
		set_dlg_sharing_tag("service");
		set_dlg_profile("callee/b", "$rU");
		do_accounting("db", "cdr|missed");
	}}
	record_route();
	if (!lookup("location")) {{
		send_reply(404, "Not Found");
		exit;
	}}
	t_relay();
}}
"#,
        fifo = site.fifo(host).display(),
    )
}
