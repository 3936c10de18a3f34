//! Modules of earlier versions, and where what they did is found now.

/// What became of a module that was there before 4.0.
pub(crate) fn successor(name: &str) -> Option<&'static str> {
    FORMER.iter().find(|(former, _)| *former == name).map(|(_, now)| *now)
}

/// What the migration pages of the versions 1.8 to 3.6 say.
const FORMER: &[(&str, &str)] = &[
    ("carrierroute", "its place has drouting"),
    ("dbtext", "write \"db_text.so\""),
    ("lcr", "its place has drouting"),
    ("localcache", "write \"cachedb_local.so\""),
    ("mi_json", "its place have httpd and mi_http"),
    ("mi_xmlrpc", "its place have httpd and mi_http"),
    ("mysql", "write \"db_mysql.so\""),
    ("postgres", "write \"db_postgres.so\""),
    ("tlsops", "write \"tls_mgm.so\""),
    (
        "uri",
        "remove the line: has_totag() is in sipmsgops, db_does_uri_exist(), db_is_to_authorized() \
         and db_is_from_authorized() are in auth_db",
    ),
    ("uri_db", "remove the line: its functions are in auth_db"),
    ("xlog", "remove the line: xlog() is part of the core"),
];

/// What to use instead of a part of a module that is not in Tandem yet; the name is that of a
/// parameter or function, empty for a module as a whole.
pub(crate) fn instead(module: &str, name: &str) -> Option<&'static str> {
    let found = INSTEAD.iter().find(|(m, names, _)| *m == module && names.contains(&name));
    found.map(|(.., help)| *help)
}

const NO_AAA: &str = "there is no Diameter: aaa_radius asks RADIUS servers, auth_db databases";
const SHARED: &str = "nodes share contacts with working_mode_preset \"full-sharing-cluster\" and \
                      location_cluster";

const INSTEAD: &[(&str, &[&str], &str)] = &[
    ("aaa_diameter", &[""], NO_AAA),
    (
        "auth_aaa",
        &[""],
        "www_authorize() of auth_db asks a database; radius_send_auth() of aaa_radius asks a server",
    ),
    ("usrloc", &["cachedb_url", "ha_cluster", "ha_shtag"], SHARED),
    ("db_sqlite", &["load_extension"], "remove the line: no native code is loaded into the server"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_gone_leads_to_its_successor() {
        assert!(successor("uri").is_some_and(|help| help.contains("sipmsgops")));
        assert_eq!(successor("frobnicate"), None);
    }

    #[test]
    fn what_is_not_here_yet_has_something_in_its_place() {
        assert!(instead("usrloc", "ha_shtag").is_some_and(|h| h.contains("location_cluster")));
        assert_eq!(instead("usrloc", "db_url"), None);
    }
}
