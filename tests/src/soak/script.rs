//! The script of the node: what a proxy, a registrar and a server of presence do, with timers so
//! short that everything has run out some seconds after the last request.

use std::net::SocketAddr;

use crate::Site;

const MODULES: &[&str] = &[
    "proto_udp",
    "sl",
    "signaling",
    "tm",
    "rr",
    "maxfwd",
    "sipmsgops",
    "cfgutils",
    "mi_fifo",
    "usrloc",
    "registrar",
    "db_sqlite",
    "dialog",
    "acc",
    "cachedb_local",
    "presence",
    "presence_mwi",
];

/// The script of a node that finds those who are called at `phones`.
pub(super) fn of(site: &Site, phones: SocketAddr) -> String {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let modules: String = MODULES.iter().map(|m| format!("loadmodule \"{m}.so\"\n")).collect();
    format!(
        r#"log_level=3
socket=udp:{ip}:5060
{modules}
modparam("mi_fifo", "fifo_name", "{dir}/fifo")
modparam("tm", "T1_timer", 50)
modparam("tm", "T2_timer", 400)
modparam("tm", "fr_timeout", 1)
modparam("tm", "fr_inv_timeout", 2)
modparam("tm", "wt_timer", 1)
modparam("usrloc", "use_domain", 0)
modparam("registrar", "min_expires", 1)
modparam("dialog", "default_timeout", 4)
modparam("dialog", "profiles_with_value", "callee")
modparam("acc", "db_url", "sqlite://{dir}/tandem.sqlite")
modparam("acc", "extra_fields", "log: src_ip->source")
modparam("cachedb_local", "cache_clean_period", 1)
{ROUTES}"#
    )
    .replace("PHONES", &phones.to_string())
}

const ROUTES: &str = r#"
route {
	if (!mf_process_maxfwd_header(10)) {
		send_reply(483, "Too Many Hops");
		exit;
	}
	if (is_method("PUBLISH")) {
		handle_publish();
		exit;
	}
	if (is_method("SUBSCRIBE")) {
		handle_subscribe();
		exit;
	}
	if (has_totag()) {
		if (loose_route()) {
			if (is_method("BYE")) do_accounting("log", "failed");
			t_relay();
			exit;
		}
		if (is_method("ACK")) {
			if (t_check_trans()) t_relay();
			exit;
		}
		send_reply(404, "Not Here");
		exit;
	}
	if (is_method("CANCEL")) {
		if (t_check_trans()) t_relay();
		exit;
	}
	if (is_method("REGISTER")) {
		save("location");
		exit;
	}
	t_check_trans();
	if (is_method("MESSAGE") && $rU == "later") {
		t_newtran();
		async(usleep(2000), LATER);
	}
	if (is_method("INVITE")) {
		create_dialog("bye-on-timeout");
		set_dlg_profile("callee", "$rU");
		$dlg_val(asked) = $ru;
		$acc_extra(src_ip) = $si;
		do_accounting("db", "cdr|missed");
		cache_store("local", "call-$ci", "$rU", 2);
	}
	$avp(asked) = $rU;
	record_route();
	t_on_failure("AGAIN");
	t_on_reply("HEARD");
	t_on_branch("BRANCH");
	if ($rU =~ "^u[0-9]") {
		if (!lookup("location")) {
			t_reply(404, "Not Found");
			exit;
		}
	} else {
		if ($rU == "fork") {
			$ru = "sip:ring@PHONES";
			append_msg_branch("sip:ring2@PHONES");
			append_msg_branch("sip:answer@PHONES");
		}
		$du = "sip:PHONES";
	}
	t_relay();
}

route[LATER] {
	t_reply(202, "Accepted");
}

branch_route[BRANCH] {
	append_hf("X-Branch: $T_branch_idx\r\n");
}

onreply_route[HEARD] {
	$avp(heard) = $rs;
}

failure_route[AGAIN] {
	if (t_was_cancelled()) exit;
	if (t_check_status("486") && $avp(asked) == "again") {
		$ru = "sip:answer@PHONES";
		$du = "sip:PHONES";
		t_on_failure("AGAIN");
		t_relay();
		exit;
	}
	if (t_check_status("408") && $rm == "INVITE") t_reply(480, "Nobody");
}
"#;
