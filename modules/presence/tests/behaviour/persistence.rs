//! What is in the database, and what it is good for.

use tandem_db::Value;
use tandem_engine::testing::TestNode;

use crate::common::*;

fn stored() -> String {
    DB.to_owned() + &set("db_update_period", "0")
}

#[test]
fn a_node_that_starts_again_goes_on_where_it_was() {
    let mut node = node(&stored());
    let tag = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    let (mut watcher, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    let mut node = node.after_restart(2_000);
    assert!(told(&mut node).is_empty(), "the watcher knows the state");
    let change = format!("SIP-If-Match: {tag}\n");
    etag(&published(&mut node, &publish("bob", "presence", 2, &change, "away")));
    let notifies = told(&mut node);
    assert_eq!((notifies.len(), body(&notifies[0])), (1, "away"));
    let number =
        |text: &str| header(text, "CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(number(&notifies[0]) > number(&first));
    let (reply, notifies) = watcher.go(&mut node, "Expires: 50\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(body(&notifies[0]), "away");
    watcher.go(&mut node, "Expires: 0\n");
    assert!(rows(&mut node, "active_watchers", &["callid"]).is_empty());
    assert_eq!(rows(&mut node, "presentity", &["etag"]).len(), 1);
}

#[test]
fn whom_the_script_has_let_in_stays_in_after_a_restart() {
    for (force, sees) in [("1", "away"), ("0", "")] {
        let route = ROUTE.replace("handle_subscribe()", &format!("handle_subscribe({force})"));
        let mut node = node_with(&stored(), &route);
        let tag = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
        // By the rules it would wait.
        let mut watcher = Watcher::new("pending", "bob", "presence");
        let (reply, _) = watcher.go(&mut node, "Expires: 600\n");
        assert_eq!(reply.starts_with("SIP/2.0 200"), force == "1", "{reply}");
        let mut node = node.after_restart(2_000);
        assert!(told(&mut node).is_empty());
        let change = format!("SIP-If-Match: {tag}\n");
        etag(&published(&mut node, &publish("bob", "presence", 2, &change, "away")));
        let seen = told(&mut node).first().map_or("", |text| body(text)).to_owned();
        assert_eq!(seen, sees, "force_active {force}");
    }
}

#[test]
fn what_was_over_when_the_node_came_back_is_told() {
    let mut node = node(&stored());
    etag(&published(&mut node, &publish("bob", "presence", 1, "Expires: 10\n", "open")));
    Watcher::watch(&mut node, "w", "bob", "presence");
    let mut node = node.after_restart(20_000);
    node.advance_ms(100);
    // The watcher was told open, which is over.
    let (reply, notifies) = Watcher::new("v", "bob", "presence").go(&mut node, "Expires: 9\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert!(notifies.iter().all(|text| !text.contains("open")), "{notifies:?}");
}

#[test]
fn nodes_with_one_database_find_what_the_other_has() {
    let params = stored() + &set("fallback2db", "1");
    let mut a = node(&params);
    let tag = etag(&published(&mut a, &publish("bob", "presence", 1, "", "open")));
    let (mut watcher, _) = Watcher::watch(&mut a, "w", "bob", "presence");
    let mut b = node(&params);
    std::mem::swap(&mut a.db, &mut b.db);
    let (_, first) = Watcher::watch(&mut b, "v", "bob", "presence");
    assert_eq!(body(&first), "open");
    let (reply, notifies) = watcher.go(&mut b, "Expires: 70\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert_eq!(body(&notifies[0]), "open");
    let mut c = node(&params);
    std::mem::swap(&mut b.db, &mut c.db);
    let change = format!("SIP-If-Match: {tag}\n");
    etag(&published(&mut c, &publish("bob", "presence", 2, &change, "away")));
    assert_eq!(rows(&mut c, "presentity", &["etag"]).len(), 1);
    let unknown = publish("bob", "presence", 3, "SIP-If-Match: nope\n", "x");
    assert!(published(&mut c, &unknown).starts_with("SIP/2.0 412"));
}

#[test]
fn what_another_node_writes_is_told_with_the_next_subscribe() {
    let params = stored() + &set("fallback2db", "1");
    let (mut a, mut b) = (node(&params), node(&params));
    let (mut watcher, _) = Watcher::watch(&mut a, "w", "bob", "presence");
    // The database is with one node at a time.
    std::mem::swap(&mut a.db, &mut b.db);
    let tag = etag(&published(&mut b, &publish("bob", "presence", 1, "", "open")));
    std::mem::swap(&mut a.db, &mut b.db);
    let (_, notifies) = watcher.go(&mut a, "Expires: 70\n");
    assert_eq!(body(&notifies[0]), "open", "it was published at the other");
    std::mem::swap(&mut a.db, &mut b.db);
    let change = format!("SIP-If-Match: {tag}\n");
    let tag = etag(&published(&mut b, &publish("bob", "presence", 2, &change, "away")));
    std::mem::swap(&mut a.db, &mut b.db);
    let (_, notifies) = watcher.go(&mut a, "Expires: 70\n");
    assert_eq!(body(&notifies[0]), "away", "it was changed there");
    std::mem::swap(&mut a.db, &mut b.db);
    let end = format!("SIP-If-Match: {tag}\nExpires: 0\n");
    published(&mut b, &publish("bob", "presence", 3, &end, ""));
    std::mem::swap(&mut a.db, &mut b.db);
    let (_, notifies) = watcher.go(&mut a, "Expires: 70\n");
    assert_eq!(body(&notifies[0]), "after away", "it was removed");
}

#[test]
fn a_publication_is_prolonged_changed_and_removed_at_either_of_two_nodes() {
    let params = stored() + &set("fallback2db", "1");
    let (mut a, mut b) = (node(&params), node(&params));
    let given = |tag: &str| format!("SIP-If-Match: {tag}\n");
    // The database is with one node at a time.
    let first = etag(&published(&mut a, &publish("bob", "presence", 1, "", "open")));
    std::mem::swap(&mut a.db, &mut b.db);
    let second = etag(&published(&mut b, &publish("bob", "presence", 2, &given(&first), "")));
    std::mem::swap(&mut a.db, &mut b.db);
    let third = etag(&published(&mut a, &publish("bob", "presence", 3, &given(&second), "away")));
    std::mem::swap(&mut a.db, &mut b.db);
    let (_, first) = Watcher::watch(&mut b, "w", "bob", "presence");
    assert_eq!(body(&first), "away", "also within the same second");
    let removal = given(&third) + "Expires: 0\n";
    etag(&published(&mut b, &publish("bob", "presence", 4, &removal, "")));
    std::mem::swap(&mut a.db, &mut b.db);
    let gone = published(&mut a, &publish("bob", "presence", 5, &given(&third), ""));
    assert!(gone.starts_with("SIP/2.0 412"), "{gone}");
    assert!(rows(&mut a, "presentity", &["etag"]).is_empty());
}

#[test]
fn the_numbers_of_notifies_rise_also_where_subscribes_go_now_here_now_there() {
    let params = stored() + &set("fallback2db", "1") + &set("db_update_period", "0");
    let (mut a, mut b) = (node(&params), node(&params));
    let (mut watcher, first) = Watcher::watch(&mut a, "w", "bob", "presence");
    let number = |text: &str| header(text, "CSeq").split(' ').next().unwrap().parse::<u32>();
    let mut last = number(&first).unwrap();
    for _ in 0..3 {
        std::mem::swap(&mut a.db, &mut b.db);
        std::mem::swap(&mut a, &mut b);
        let (reply, notifies) = watcher.go(&mut a, "Expires: 70\n");
        assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
        let now = number(&notifies[0]).unwrap();
        assert!(now > last, "{now} comes after {last}");
        last = now;
    }
}

#[test]
fn a_notify_behind_the_numbers_of_another_node_leaps_over_them_and_takes_nothing_back() {
    let params = stored() + &set("fallback2db", "1") + &set("db_update_period", "0");
    let (mut a, mut b) = (node(&params), node(&params));
    let (mut watcher, _) = Watcher::watch(&mut a, "w", "bob", "presence");
    std::mem::swap(&mut a.db, &mut b.db);
    let (reply, _) = watcher.go(&mut b, "Expires: 3000\n");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    // The nodes of a test make the same ETags, one after the other.
    etag(&published(&mut b, &publish("carl", "presence", 6, "", "x")));
    etag(&published(&mut b, &publish("bob", "presence", 7, "", "elsewhere")));
    assert_eq!(left().len(), 1);
    std::mem::swap(&mut a.db, &mut b.db);
    let columns = ["remote_cseq", "expires", "local_cseq"];
    let before = rows(&mut a, "active_watchers", &columns);
    published(&mut a, &publish("bob", "presence", 1, "", "open"));
    let low = left().remove(0);
    a.udp(WATCHER, &reply_to(&low, 500));
    let number = |text: &str| header(text, "CSeq").split(' ').next().unwrap().parse::<u32>();
    let high = &a.sent()[0].1;
    assert!(number(high).unwrap() > 2_000, "{high}");
    assert!(body(high).contains("open") && body(high).contains("elsewhere"), "{high}");
    // Who refuses that too has another reason.
    a.udp(WATCHER, &reply_to(high, 500));
    assert!(a.sent().is_empty());
    assert_eq!(rows(&mut a, "active_watchers", &columns), before, "what b wrote is there");
    published(&mut a, &publish("bob", "presence", 2, "", "away"));
    assert_eq!(told(&mut a).len(), 1);
}

#[test]
fn what_another_node_has_prolonged_is_not_ended() {
    let params = stored() + &set("fallback2db", "1") + &set("db_update_period", "0");
    let (mut a, mut b) = (node(&params), node(&params));
    let mut watcher = Watcher::new("w", "bob", "presence");
    watcher.go(&mut a, "Expires: 20\n");
    std::mem::swap(&mut a.db, &mut b.db);
    watcher.go(&mut b, "Expires: 600\n");
    std::mem::swap(&mut a.db, &mut b.db);
    a.advance_ms(25_000);
    let goes_on = |text: &String| header(text, "Subscription-State").starts_with("active");
    let notifies = told(&mut a);
    assert!(notifies.iter().all(goes_on), "{notifies:?}");
    assert_eq!(rows(&mut a, "active_watchers", &["expires"]).len(), 1);
    a.advance_ms(600_000);
    let notifies = told(&mut a);
    assert_eq!(header(&notifies[0], "Subscription-State"), "terminated;reason=timeout");
}

#[test]
fn rows_that_say_nothing_do_no_harm() {
    let mut node = TestNode::with_database(&script_of(&stored(), ROUTE), MODULES, |db| {
        let insert = |table: &str, row: &[(&str, Value)]| tandem_db::Query::Insert {
            table: table.to_owned().into(),
            row: row.iter().map(|(n, v)| ((*n).to_owned().into(), v.clone())).collect(),
        };
        let text = |t: &str| Value::Str(t.to_owned());
        let end = || Value::Int(i64::MAX);
        let publication = [
            ("username", text("bob")),
            ("domain", text("a.test")),
            ("event", text("presence")),
            ("etag", text("")),
            ("expires", end()),
            ("received_time", Value::Int(-5)),
        ];
        db.execute(&insert("presentity", &publication)).unwrap();
        let mut row: Vec<(&str, Value)> = [
            "presentity_uri",
            "watcher_username",
            "watcher_domain",
            "to_user",
            "to_domain",
            "event",
            "to_tag",
            "from_tag",
            "callid",
            "contact",
            "socket_info",
            "local_contact",
        ]
        .iter()
        .map(|name| (*name, text(&"x".repeat(3_000))))
        .collect();
        for name in ["local_cseq", "remote_cseq", "expires", "status", "version"] {
            row.push((name, Value::Int(-1)));
        }
        db.execute(&insert("active_watchers", &row)).unwrap();
    })
    .unwrap();
    assert!(node.logs().iter().any(|(_, text)| text.contains("cannot be read")));
    assert!(list(&mut node, "presence:subs_phtable_list").is_empty());
}

#[test]
fn a_database_that_is_away_loses_nothing() {
    use tandem_engine::testing::DbState;
    let mut node = node(&stored());
    node.db_state = DbState::Down;
    etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    Watcher::watch(&mut node, "w", "bob", "presence");
    node.db_state = DbState::Up;
    node.advance_ms(1_500);
    assert_eq!(rows(&mut node, "presentity", &["etag"]).len(), 1);
    assert_eq!(rows(&mut node, "active_watchers", &["callid"]).len(), 1);
}

#[test]
fn a_body_of_another_type_is_of_that_type_after_a_restart() {
    let mut node = node(&stored());
    let other = publish("bob", "presence", 1, "", "open").replace("text/plain", "text/other;x=1");
    etag(&published(&mut node, &other));
    let (_, first) = Watcher::watch(&mut node, "w", "bob", "presence");
    assert_eq!(header(&first, "Content-Type"), "text/other;x=1");
    let mut node = node.after_restart(1_000);
    let (_, first) = Watcher::watch(&mut node, "v", "bob", "presence");
    assert_eq!(header(&first, "Content-Type"), "text/other;x=1");
    assert_eq!(body(&first), "open");
}

#[test]
fn a_write_that_is_tried_again_is_not_overtaken() {
    use tandem_engine::testing::DbState;
    let mut node = node(&stored());
    let mut change = String::new();
    for (n, text) in (1..).zip(["one", "two", "three", "four"]) {
        let mut reply = published(&mut node, &publish("bob", "presence", n, &change, text));
        if n == 2 {
            // The write is on its way when the database goes; what comes then waits behind it.
            assert_eq!(reply, "");
            node.db_state = DbState::Down;
            node.answer_queries();
            reply = node.sent().into_iter().map(|(_, text)| text).next().unwrap();
        }
        change = format!("SIP-If-Match: {}\n", etag(&reply));
        node.db_state = if n == 1 { DbState::Slow } else { DbState::Down };
    }
    node.db_state = DbState::Up;
    node.advance_ms(3_000);
    let rows = rows(&mut node, "presentity", &["body"]);
    let bodies: Vec<_> = rows.iter().map(|row| row[0].as_bytes().unwrap().to_vec()).collect();
    assert_eq!(bodies, [b"four".to_vec()]);
}

#[test]
fn the_answer_to_a_publish_leaves_when_its_row_is_written() {
    use tandem_engine::testing::DbState;
    let mut node = node(&stored());
    Watcher::watch(&mut node, "w", "bob", "presence");
    let write = |node: &mut TestNode, n: u32, extra: &str, text: &str| {
        node.db_state = DbState::Slow;
        let early = published(node, &publish("bob", "presence", n, extra, text));
        assert_eq!((early.as_str(), told(node).len()), ("", 0), "{text}");
        node.advance_ms(1_200);
        node.db_state = DbState::Up;
        node.answer_queries();
        let sent = node.sent().into_iter();
        let (mine, rest): (Vec<_>, Vec<_>) = sent.partition(|(_, text)| text.starts_with("SIP/"));
        assert_eq!((mine.len(), rest.len()), (1, 1), "the answer, and a NOTIFY");
        let text = mine.into_iter().map(|(_, text)| text).next().unwrap();
        assert_eq!(rest[0].1.lines().next().unwrap().split(' ').next(), Some("NOTIFY"));
        node.udp(WATCHER, &reply_to(&rest[0].1, 200));
        text
    };
    let reply = write(&mut node, 1, "Expires: 600\n", "open");
    assert_eq!(header(&reply, "Expires"), "600", "what was granted, not what is left");
    let change = format!("SIP-If-Match: {}\n", etag(&reply));
    let reply = write(&mut node, 2, &change, "away");
    assert_eq!(rows(&mut node, "presentity", &["etag"]).len(), 1);
    let end = format!("SIP-If-Match: {}\nExpires: 0\n", etag(&reply));
    let reply = write(&mut node, 3, &end, "");
    assert!(reply.starts_with("SIP/2.0 200"), "{reply}");
    assert!(rows(&mut node, "presentity", &["etag"]).is_empty());
}

#[test]
fn a_look_at_the_state_asks_the_database_while_its_watcher_is_written() {
    // Who may watch is written with each SUBSCRIBE; that is nothing that was published here.
    let params = stored() + &set("fallback2db", "1");
    let (mut a, mut b) = (node(&params), node(&params));
    let mut extra = String::new();
    for (n, text) in (1..).zip(["open", "away", "open", "busy"]) {
        let tag = etag(&published(&mut a, &publish("bob", "presence", n, &extra, text)));
        extra = format!("SIP-If-Match: {tag}\n");
        std::mem::swap(&mut a.db, &mut b.db);
        let mut looks = Watcher::new(&format!("w{n}"), "bob", "presence");
        let (_, notifies) = looks.go(&mut b, "Expires: 0\n");
        std::mem::swap(&mut a.db, &mut b.db);
        assert_eq!(notifies.last().map(|text| body(text)), Some(text));
    }
}

#[test]
fn after_a_restart_nobody_is_told_a_state_before_the_rules_have_been_asked() {
    let mut node = node(&stored());
    let tag = etag(&published(&mut node, &publish("bob", "presence", 1, "", "open")));
    let mut watcher = Watcher::new("slow", "bob", "presence");
    let (reply, _) = watcher.go(&mut node, "Expires: 600\n");
    assert_eq!(reply, "");
    node.mi("test_packages:let_in", serde_json::Value::Null);
    assert_eq!(got(&mut node).iter().filter(|text| text.ends_with("open")).count(), 1);
    let mut node = node.after_restart(1_000);
    assert!(told(&mut node).is_empty());
    let change = format!("SIP-If-Match: {tag}\n");
    etag(&published(&mut node, &publish("bob", "presence", 2, &change, "away")));
    node.advance_ms(100);
    assert!(told(&mut node).is_empty(), "what he may see is not known");
    node.mi("test_packages:let_in", serde_json::Value::Null);
    node.advance_ms(100);
    let notifies = told(&mut node);
    assert_eq!(notifies.iter().map(|text| body(text)).collect::<Vec<_>>(), ["away"]);
}

#[test]
fn a_subscription_that_is_prolonged_before_its_row_is_over_keeps_the_row() {
    // With the periods that nobody sets: the table is cleaned right before it is written.
    for (granted_s, asks_after_s) in [(200, 180), (190, 170), (130, 90), (60, 40), (15, 5)] {
        let mut node = node(&(DB.to_owned() + &set("fallback2db", "1")));
        let expires = format!("Expires: {granted_s}\n");
        let mut watcher = Watcher::new("w", "bob", "presence");
        for round in 0..12 {
            let (reply, _) = watcher.go(&mut node, &expires);
            assert!(reply.starts_with("SIP/2.0 200"), "{expires} {round}: {reply}");
            for second in 0..asks_after_s {
                node.advance_ms(1_000);
                let is_written = round * asks_after_s + second > 100;
                let rows = rows(&mut node, "active_watchers", &["callid"]).len();
                assert!(!is_written || rows == 1, "{expires} {round}: after {second} s");
            }
        }
        let mut node = node.after_restart(1_000);
        let (reply, _) = watcher.go(&mut node, &expires);
        assert!(reply.starts_with("SIP/2.0 200"), "{expires} {reply}");
    }
}

#[test]
fn a_row_that_was_deleted_while_the_database_was_away_is_written_again() {
    use tandem_engine::testing::DbState;
    let params = stored() + &set("fallback2db", "1");
    let (mut a, mut b) = (node(&params), node(&params));
    let mut watcher = Watcher::new("w", "bob", "presence");
    watcher.go(&mut a, "Expires: 20\n");
    // One that goes on at the other node, and one that ends there.
    let mut moves = Watcher::new("moves", "bob", "presence");
    moves.go(&mut a, "Expires: 20\n");
    let mut leaves = Watcher::new("leaves", "bob", "presence");
    leaves.go(&mut a, "Expires: 600\n");
    a.db_state = DbState::Down;
    for one in [&mut watcher, &mut moves, &mut leaves] {
        assert!(one.go(&mut a, "Expires: 700\n").0.starts_with("SIP/2.0 200"));
    }
    std::mem::swap(&mut a.db, &mut b.db);
    // What b hears of the first of them is that its time is over.
    moves.cseq += 1;
    assert!(moves.go(&mut b, "Expires: 900\n").0.starts_with("SIP/2.0 200"));
    leaves.cseq += 1;
    assert!(leaves.go(&mut b, "Expires: 0\n").0.starts_with("SIP/2.0 200"));
    b.advance_ms(120_000);
    let left = rows(&mut b, "active_watchers", &["callid", "remote_cseq"]);
    assert_eq!(left.len(), 1, "{left:?}");
    std::mem::swap(&mut a.db, &mut b.db);
    for _ in 0..30 {
        a.advance_ms(1_000);
    }
    a.db_state = DbState::Up;
    a.advance_ms(2_000);
    let mut there = rows(&mut a, "active_watchers", &["callid", "remote_cseq"]);
    there.sort_by_key(|row| row[1].as_int());
    let named = |row: &[Value]| (row[0].as_bytes().unwrap().to_vec(), row[1].as_int().unwrap());
    let there: Vec<_> = there.iter().map(|row| named(row)).collect();
    let expected = [(watcher.call_id.into_bytes(), 2), (moves.call_id.into_bytes(), 4)];
    assert_eq!(there, expected);
}
