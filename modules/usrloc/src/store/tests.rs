use std::cell::{Cell, RefCell};
use std::sync::Arc;

use proptest::prelude::*;
use tandem_clock::{Chance, Now, SEC};

use super::*;

const NOW_S: u64 = 1_800_000_000;
/// Both clocks at this Unix second.
fn at_s(unix_s: u64) -> Now {
    Now { mono_ns: unix_s * SEC, unix_ms: unix_s * 1000 }
}

const AOR: &[u8] = b"alice@example.org";

/// A change on its way, as a Tandem peer would get it.
#[derive(Clone, Debug)]
enum Sent {
    Aor,
    Put { contact: Arc<Contact> },
    Delete { aor: Vec<u8>, tombstone: Tombstone },
    AorDelete,
}

/// A node with one domain; its clock is shared, as hybrid clocks of connected nodes are.
struct Node<'a> {
    domain: Domain,
    number: u32,
    clock: &'a Cell<u64>,
    sent: RefCell<Vec<Sent>>,
}

impl<'a> Node<'a> {
    fn new(number: u32, clock: &'a Cell<u64>) -> Self {
        let mut chance = Chance::from_number(u64::from(number));
        let domain = Domain::new("location", 4, false, &mut chance);
        Self { domain, number, clock, sent: RefCell::default() }
    }

    fn apply(&self, aor: &[u8], origin: Origin, change: Change<'_>) -> (Outcome, Done) {
        self.domain.edit(aor, at_s(NOW_S), origin, self, |edit| edit.apply(change))
    }

    fn put(&self, contact: NewContact<'_>, matching: &Matching) -> Outcome {
        self.apply(AOR, Origin::Local, Change::Put { contact, matching }).0
    }

    fn id_of(&self, aor: &[u8], uri: &[u8]) -> Option<u64> {
        self.domain.all_of(aor).iter().find(|(c, _)| c.uri() == uri).map(|(c, _)| c.id)
    }

    fn receive(&self, sent: &Sent) {
        match sent {
            Sent::Put { contact } => {
                let matching = mode_of(contact.keyed_by_call_id());
                let new = NewContact { id: Some(contact.id), ..contact.as_new() };
                let origin = Origin::Tandem { stamp: contact.stamp() };
                self.apply(contact.aor(), origin, Change::Put { contact: new, matching });
            }
            Sent::Delete { aor, tombstone } => {
                let origin = Origin::Tandem { stamp: tombstone.stamp };
                self.apply(aor, origin, Change::Bury { tombstone: tombstone.clone() });
            }
            Sent::Aor | Sent::AorDelete => {}
        }
    }

    /// Everything replicated, without what is local.
    fn dump(&self) -> Vec<State> {
        let shards = 0..self.domain.shard_count();
        let all = shards.flat_map(|shard| self.domain.shard_contacts(shard));
        let mut all: Vec<_> = all.map(|(contact, _)| State(contact)).collect();
        let key = |c: &Contact| {
            (c.aor().to_vec(), c.uri().to_vec(), c.call_id().to_vec(), c.keyed_by_call_id())
        };
        all.sort_by_key(|state| key(&state.0));
        all
    }
}

/// A contact without what is local.
#[derive(Debug)]
struct State(Arc<Contact>);

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.0.aor() == other.0.aor() && self.0.is_same_state(&other.0)
    }
}

impl Sink for Node<'_> {
    fn stamp(&self) -> Stamp {
        self.clock.set(self.clock.get() + 1);
        stamp_at(self.clock.get(), self.number)
    }

    fn replicate(&self, _shard: usize, change: Replica<'_>) {
        self.sent.borrow_mut().push(match change {
            Replica::AorInsert { .. } => Sent::Aor,
            Replica::ContactInsert { contact, .. } | Replica::ContactUpdate { contact, .. } => {
                Sent::Put { contact: Arc::clone(contact) }
            }
            Replica::ContactDelete { aor, tombstone } => {
                Sent::Delete { aor: aor.into(), tombstone: tombstone.clone() }
            }
            Replica::AorDelete { .. } => Sent::AorDelete,
        });
    }
}

fn mode_of(keyed_by_call_id: bool) -> &'static Matching {
    if keyed_by_call_id { &Matching::UriCallId } else { &Matching::Uri }
}

fn contact<'a>(uri: &'a str, call_id: &'a str, cseq: u32) -> NewContact<'a> {
    NewContact {
        uri: uri.as_bytes(),
        call_id: call_id.as_bytes(),
        cseq,
        expires_s: NOW_S + 3600,
        last_modified_s: NOW_S,
        ..NewContact::default()
    }
}

fn clock() -> Cell<u64> {
    Cell::new(NOW_S * 1_000_000)
}

#[test]
fn a_first_contact_makes_the_aor_and_the_last_delete_removes_it() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let (outcome, done) = node.apply(
        AOR,
        Origin::Local,
        Change::Put { contact: contact("sip:a@h", "c", 1), matching: &Matching::Uri },
    );
    let Outcome::Inserted(id) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(done.events[..], [Event::AorInserted, Event::ContactInserted(_)]));
    let (outcome, done) = node.apply(AOR, Origin::Local, Change::Delete { id });
    assert_eq!(outcome, Outcome::Deleted);
    assert!(matches!(done.events[..], [Event::ContactDeleted { .. }, Event::AorDeleted]));
    let sent = node.sent.borrow();
    assert!(matches!(
        sent[..],
        [Sent::Aor, Sent::Put { .. }, Sent::Delete { .. }, Sent::AorDelete]
    ));
    assert_eq!((node.domain.aor_count(), node.domain.contact_count()), (0, 0));
}

/// What comes due up to a second, without removing it.
fn due(node: &Node<'_>, now_s: u64) -> (usize, usize) {
    let mut due = Due::default();
    for shard in 0..node.domain.shard_count() {
        while node.domain.pop_due(shard, now_s, 2, &mut due) {}
    }
    (due.ended.len(), due.to_wake.len())
}

fn expire(node: &Node<'_>, id: u64, now_s: u64) -> Outcome {
    let change = |edit: &mut Edit<'_>| edit.apply(Change::Expire { id });
    node.domain.edit(AOR, at_s(now_s), Origin::Local, node, change).0
}

#[test]
fn a_refresh_keeps_the_id_and_ends_later() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let Outcome::Inserted(id) = node.put(contact("sip:a@h", "c", 1), &Matching::Uri) else {
        panic!()
    };
    let later = NewContact { expires_s: NOW_S + 7200, ..contact("sip:a@h", "c", 2) };
    assert_eq!(node.put(later, &Matching::Uri), Outcome::Refreshed(id));
    assert_eq!(due(&node, NOW_S + 3700), (0, 0));
    assert_eq!(expire(&node, id, NOW_S + 3600), Outcome::Ignored(Why::Known));
    assert_eq!(due(&node, NOW_S + 7300), (1, 0));
    assert_eq!(due(&node, NOW_S + 7300), (1, 0), "due until it is removed");
    assert_eq!(expire(&node, id, NOW_S + 7300), Outcome::Deleted);
    assert_eq!(expire(&node, id, NOW_S + 7300), Outcome::Ignored(Why::NotFound));
    assert_eq!(due(&node, NOW_S + 9999), (0, 0));
    assert_eq!(node.sent.borrow().len(), 3, "an expiry is never on the wire");
}

#[test]
fn a_shorter_lifetime_ends_earlier() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.put(contact("sip:a@h", "c", 1), &Matching::Uri);
    let sooner = NewContact { expires_s: NOW_S + 60, ..contact("sip:a@h", "c", 2) };
    node.put(sooner, &Matching::Uri);
    assert!(node.domain.lookup(AOR, NOW_S + 60).is_empty(), "lookup never sees the expired");
    assert_eq!((due(&node, NOW_S + 59), due(&node, NOW_S + 60)), ((0, 0), (1, 0)));
}

#[test]
fn a_wall_clock_that_jumps_back_loses_no_end() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.put(NewContact { expires_s: NOW_S + 60, ..contact("sip:a@h", "c", 1) }, &Matching::Uri);
    assert_eq!(due(&node, NOW_S + 60), (1, 0));
    assert_eq!(due(&node, NOW_S - 100), (0, 0));
    assert_eq!(due(&node, NOW_S + 61), (1, 0));
}

#[test]
fn a_push_contact_comes_due_once_before_it_ends() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.domain.wake_before(20);
    let push =
        |uri, flags, cseq| NewContact { flags, expires_s: NOW_S + 100, ..contact(uri, "c", cseq) };
    node.put(push("sip:a@h", FLAG_PUSH, 1), &Matching::Uri);
    node.put(push("sip:b@h", 0, 1), &Matching::Uri);
    assert_eq!((due(&node, NOW_S + 79), due(&node, NOW_S + 80)), ((0, 0), (0, 1)));
    assert_eq!((due(&node, NOW_S + 99), due(&node, NOW_S + 100)), ((0, 0), (2, 0)));
    node.put(push("sip:a@h", FLAG_PUSH, 2), &Matching::Uri);
    assert_eq!(due(&node, NOW_S + 80), (0, 1), "a refresh has it woken again");
}

#[test]
fn key_values_of_the_aor_and_of_others_live_through_refreshes() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let tagged =
        |uri, cseq| NewContact { key_values: br#"{"_st":"t"}"#, ..contact(uri, "c", cseq) };
    node.put(tagged("sip:a@h", 1), &Matching::Uri);
    let keys = br#"{"_st":"t","_urec_kvs":"{\"k\":\"v\"}","mid":1}"#;
    let change = Change::Update {
        contact: NewContact { key_values: keys, ..contact("sip:a@h", "c", 1) },
        matching: &Matching::Uri,
    };
    node.apply(AOR, Origin::Local, change);
    node.put(tagged("sip:a@h", 2), &Matching::Uri);
    node.put(contact("sip:b@h", "c", 1), &Matching::Uri);
    let all = node.domain.all_of(AOR);
    assert_eq!(all[0].0.text(Text::KeyValues), keys);
    assert_eq!(all[1].0.text(Text::KeyValues), br#"{"_urec_kvs":"{\"k\":\"v\"}"}"#);
}

#[test]
fn a_contact_that_changes_its_uri_is_deleted_under_the_old_name_at_the_peers() {
    let clock = clock();
    let (a, b) = (Node::new(1, &clock), Node::new(2, &clock));
    let mode = Matching::parse("<x>").unwrap();
    let Outcome::Inserted(id) = a.put(contact("sip:a@h1;x=1", "c", 1), &mode) else { panic!() };
    assert_eq!(a.put(contact("sip:a@h2;x=1", "c", 2), &mode), Outcome::Updated(id));
    a.sent.borrow().iter().for_each(|s| b.receive(s));
    assert_eq!(a.dump(), b.dump());
    assert_eq!(b.domain.contact_count(), 1);
}

#[test]
fn a_lower_cseq_of_the_same_call_is_ignored_and_another_call_wins() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.put(contact("sip:a@h", "c", 5), &Matching::Uri);
    let old = node.put(contact("sip:a@h", "c", 4), &Matching::Uri);
    assert_eq!(old, Outcome::Ignored(Why::OldCseq));
    assert!(matches!(node.put(contact("sip:a@h", "d", 1), &Matching::Uri), Outcome::Updated(_)));
}

#[test]
fn the_same_contact_under_two_call_ids_is_two_contacts_in_mode_1() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.put(contact("sip:a@h", "c", 5), &Matching::UriCallId);
    node.put(contact("sip:a@h", "d", 5), &Matching::UriCallId);
    assert_eq!(node.domain.lookup(AOR, NOW_S).len(), 2);
}

#[test]
fn a_stock_insert_needs_a_higher_cseq_and_a_stock_update_an_equal_one() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let stock = Origin::Stock { node: 9 };
    let put = |cseq, is_update| {
        let contact = contact("sip:a@h", "c", cseq);
        let matching = &Matching::Uri;
        let change = match is_update {
            true => Change::Update { contact, matching },
            false => Change::Put { contact, matching },
        };
        node.apply(AOR, stock, change).0
    };
    assert!(matches!(put(2, false), Outcome::Inserted(_)));
    assert_eq!(put(2, false), Outcome::Ignored(Why::OldCseq));
    assert!(matches!(put(2, true), Outcome::Refreshed(_)));
    assert_eq!(put(1, true), Outcome::Ignored(Why::OldCseq));
    let named = |cseq| Change::DeleteNamed {
        uri: b"sip:a@h",
        call_id: b"c",
        cseq,
        matching: &Matching::Uri,
    };
    assert_eq!(node.apply(AOR, stock, named(1)).0, Outcome::Ignored(Why::OldCseq));
    assert_eq!(node.apply(AOR, stock, named(2)).0, Outcome::Deleted);
    assert!(node.sent.borrow().is_empty(), "replicated changes do not echo");
}

#[test]
fn a_stock_write_from_before_a_delete_does_not_undo_it() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let Outcome::Inserted(id) = node.put(contact("sip:a@h", "c", 1), &Matching::Uri) else {
        panic!()
    };
    node.apply(AOR, Origin::Local, Change::Delete { id });
    let old = NewContact { last_modified_s: NOW_S - 5, ..contact("sip:a@h", "d", 1) };
    let change = Change::Put { contact: old, matching: &Matching::Uri };
    let outcome = node.apply(AOR, Origin::Stock { node: 9 }, change).0;
    assert_eq!(outcome, Outcome::Ignored(Why::Older));
    let new = contact("sip:a@h", "d", 1);
    let change = Change::Put { contact: new, matching: &Matching::Uri };
    let outcome = node.apply(AOR, Origin::Stock { node: 9 }, change).0;
    assert!(matches!(outcome, Outcome::Inserted(_)), "the second of the delete is not before it");
}

#[test]
fn a_stock_node_whose_clock_is_behind_is_believed_live_but_not_in_a_sync() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let stock = Origin::Stock { node: 9 };
    let behind = |s, call_id, cseq| NewContact {
        last_modified_s: NOW_S - s,
        ..contact("sip:a@h", call_id, cseq)
    };
    let put = |contact| Change::Put { contact, matching: &Matching::Uri };
    let learn = |contact| Change::Learn { contact, matching: &Matching::Uri };
    assert!(matches!(node.apply(AOR, stock, put(behind(0, "c", 1))).0, Outcome::Inserted(_)));
    // The client's own order counts more than any clock.
    let next = node.apply(AOR, stock, put(behind(60, "c", 2))).0;
    assert!(matches!(next, Outcome::Refreshed(_)), "{next:?}");
    node.apply(AOR, stock, Change::DeleteAor);
    assert_eq!(node.apply(AOR, stock, put(behind(60, "d", 1))).0, Outcome::Ignored(Why::Older));
    assert_eq!(node.apply(AOR, stock, learn(behind(2, "d", 1))).0, Outcome::Ignored(Why::Older));
    let back = node.apply(AOR, stock, put(behind(2, "d", 1))).0;
    assert!(matches!(back, Outcome::Inserted(_)), "{back:?}");
    node.apply(AOR, stock, Change::DeleteAor);
    let back = node.apply(AOR, stock, learn(behind(60, "d", 2))).0;
    assert!(matches!(back, Outcome::Inserted(_)), "{back:?}");
}

#[test]
fn a_named_delete_of_a_peer_holds_although_the_contact_comes_later() {
    let clock = clock();
    let node = Node::new(2, &clock);
    let delete =
        Change::DeleteNamed { uri: b"sip:a@h", call_id: b"c", cseq: 1, matching: &Matching::Uri };
    let origin = |time_us| Origin::Tandem { stamp: stamp_at(time_us, 1) };
    node.apply(AOR, origin(20), delete);
    let put = |time_us| {
        let contact = contact("sip:a@h", "c", 1);
        node.apply(AOR, origin(time_us), Change::Put { contact, matching: &Matching::Uri }).0
    };
    assert_eq!(put(10), Outcome::Ignored(Why::Older));
    assert!(matches!(put(30), Outcome::Inserted(_)));
    assert_eq!(node.domain.tombstone_count(), 0);
}

#[test]
fn an_operator_may_remove_a_contact_of_a_phone_that_then_starts_again_at_a_low_cseq() {
    let clock = clock();
    let (a, b) = (Node::new(1, &clock), Node::new(2, &clock));
    let Outcome::Inserted(id) = a.put(contact("sip:a@h", "c", 50), &Matching::Uri) else {
        panic!()
    };
    a.apply(AOR, Origin::Local, Change::Delete { id });
    a.put(contact("sip:a@h", "c", 1), &Matching::Uri);
    a.sent.borrow().iter().for_each(|s| b.receive(s));
    assert_eq!((a.dump(), b.dump().len()), (b.dump(), 1));
}

#[test]
fn a_delete_is_remembered_while_a_peer_that_missed_a_refresh_may_have_the_contact() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let Outcome::Inserted(id) = node.put(contact("sip:a@h", "c", 1), &Matching::Uri) else {
        panic!()
    };
    let short = NewContact { expires_s: NOW_S + 10, ..contact("sip:a@h", "c", 2) };
    node.put(short, &Matching::Uri);
    node.apply(AOR, Origin::Local, Change::Delete { id });
    let sent = node.sent.borrow();
    let deleted = sent.iter().find_map(|s| match s {
        Sent::Delete { tombstone, .. } => Some(u64::from(tombstone.until_s)),
        _ => None,
    });
    assert!(deleted.is_some_and(|until_s| until_s >= NOW_S + 3600), "{deleted:?}");
}

#[test]
fn lookup_gives_higher_q_first_and_keeps_the_order_of_equals() {
    let clock = clock();
    let node = Node::new(1, &clock);
    for (uri, q) in [("sip:1@h", 500), ("sip:2@h", -1), ("sip:3@h", 1000), ("sip:4@h", 500)] {
        node.put(NewContact { q, ..contact(uri, "c", 1) }, &Matching::Uri);
    }
    let uris: Vec<_> = node.domain.lookup(AOR, NOW_S).iter().map(|c| c.uri().to_vec()).collect();
    assert_eq!(uris, [b"sip:3@h", b"sip:1@h", b"sip:4@h", b"sip:2@h"]);
}

#[test]
fn an_aor_takes_only_so_many_contacts_and_tombstones() {
    let clock = clock();
    let node = Node::new(1, &clock);
    for n in 0..CONTACTS_MAX {
        let uri = format!("sip:{n}@h");
        assert!(matches!(
            node.put(contact(&uri, "c", 1), &Matching::UriCallId),
            Outcome::Inserted(_)
        ));
    }
    let one_more = node.put(contact("sip:x@h", "c", 1), &Matching::UriCallId);
    assert_eq!(one_more, Outcome::Ignored(Why::NotStored(NotStored::TooMany)));
    let ids: Vec<_> = node.domain.all_of(AOR).iter().map(|(c, _)| c.id).collect();
    for id in ids {
        node.apply(AOR, Origin::Local, Change::Delete { id });
    }
    assert_eq!(node.domain.tombstone_count(), TOMBSTONES_MAX);
}

#[test]
fn deletes_of_ever_new_aors_are_forgotten_in_the_end() {
    let clock = clock();
    let node = Node::new(1, &clock);
    let delete =
        Change::DeleteNamed { uri: b"u", call_id: b"c", cseq: 1, matching: &Matching::Uri };
    for n in 0..40_000u32 {
        let origin = Origin::Tandem { stamp: stamp_at(u64::from(n), 3) };
        node.apply(&n.to_be_bytes(), origin, delete.clone());
    }
    let count = node.domain.tombstone_count();
    assert!(count <= 1 << 15, "{count}");
}

#[test]
fn what_ends_within_10_s_is_in_no_digest() {
    let clock = clock();
    let node = Node::new(1, &clock);
    node.put(contact("sip:a@h", "c", 1), &Matching::Uri);
    assert_eq!(node.domain.digests(NOW_S).count, 1);
    assert_eq!(node.domain.digests(NOW_S + 3589).count, 1);
    assert_eq!(node.domain.digests(NOW_S + 3590).count, 0);
}

/// What a client or operator does at one of the nodes.
#[derive(Clone, Debug)]
struct Act {
    at: usize,
    aor: u8,
    uri: u8,
    call: u8,
    by_call_id: bool,
    deletes: bool,
    q: i16,
}

fn act() -> impl Strategy<Value = Act> {
    (0..3usize, 0..3u8, 0..3u8, 0..2u8, any::<bool>(), 0..4u8, 0..3i16).prop_map(
        |(at, aor, uri, call, by_call_id, deletes, q)| Act {
            at,
            aor,
            uri,
            call,
            by_call_id,
            deletes: deletes == 0,
            q,
        },
    )
}

/// Lets three nodes act without hearing of each other; CSeq rises as time does.
fn act_all(nodes: &[Node<'_>], acts: &[Act]) {
    for (n, act) in acts.iter().enumerate() {
        let (aor, node) = (format!("user{}", act.aor).into_bytes(), &nodes[act.at]);
        let uri = format!("sip:{}@h", act.uri);
        if act.deletes {
            if let Some(id) = node.id_of(&aor, uri.as_bytes()) {
                node.apply(&aor, Origin::Local, Change::Delete { id });
            }
            continue;
        }
        let call_id = format!("call{}", act.call);
        let new = NewContact { q: act.q, ..contact(&uri, &call_id, n as u32) };
        let matching = mode_of(act.by_call_id);
        node.apply(&aor, Origin::Local, Change::Put { contact: new, matching });
    }
}

fn all_sent(nodes: &[Node<'_>]) -> Vec<Sent> {
    nodes.iter().flat_map(|n| n.sent.borrow().clone()).collect()
}

proptest! {
    #[test]
    fn nodes_that_exchange_everything_in_any_order_and_number_end_equal(
        acts in proptest::collection::vec(act(), 0..40),
        order in proptest::collection::vec(any::<u32>(), 600),
    ) {
        let clock = clock();
        let nodes = [Node::new(1, &clock), Node::new(2, &clock), Node::new(3, &clock)];
        act_all(&nodes, &acts);
        let sent = all_sent(&nodes);
        for (turn, node) in nodes.iter().enumerate() {
            // Every change twice, in an order of this node's own.
            let mut inbox: Vec<(u32, &Sent)> = sent.iter().chain(&sent)
                .enumerate()
                .map(|(n, s)| (order[(n + turn * 200) % order.len()], s))
                .collect();
            inbox.sort_by_key(|(key, _)| *key);
            inbox.iter().for_each(|(_, s)| node.receive(s));
        }
        prop_assert_eq!(nodes[0].dump(), nodes[1].dump());
        prop_assert_eq!(nodes[0].dump(), nodes[2].dump());
        prop_assert_eq!(nodes[0].domain.digests(NOW_S), nodes[1].domain.digests(NOW_S));
        prop_assert_eq!(nodes[0].domain.digests(NOW_S), nodes[2].domain.digests(NOW_S));
    }

    #[test]
    fn digests_are_equal_exactly_when_the_dumps_are(
        acts in proptest::collection::vec(act(), 0..12),
    ) {
        let clock = clock();
        let nodes = [Node::new(1, &clock), Node::new(2, &clock), Node::new(3, &clock)];
        act_all(&nodes, &acts);
        let equal = nodes[0].dump() == nodes[1].dump();
        prop_assert_eq!(nodes[0].domain.digests(NOW_S) == nodes[1].domain.digests(NOW_S), equal);
    }

    #[test]
    fn a_repair_by_snapshots_makes_nodes_equal(
        acts in proptest::collection::vec(act(), 0..40),
    ) {
        let clock = clock();
        let nodes = [Node::new(1, &clock), Node::new(2, &clock), Node::new(3, &clock)];
        act_all(&nodes, &acts);
        for (from, to) in [(0, 1), (1, 0), (0, 1)] {
            for bucket in 0..=255 {
                for record in nodes[from].domain.snapshot(bucket, NOW_S) {
                    nodes[to].receive(&match record {
                        Record::Contact(contact) => Sent::Put { contact },
                        Record::Tombstone { aor, tombstone } => {
                            Sent::Delete { aor: aor.to_vec(), tombstone }
                        }
                    });
                }
            }
        }
        prop_assert_eq!(nodes[0].dump(), nodes[1].dump());
    }

    #[test]
    fn ids_are_unique_and_the_index_has_exactly_one_entry_a_contact(
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let clock = clock();
        let nodes = [Node::new(1, &clock), Node::new(2, &clock), Node::new(3, &clock)];
        act_all(&nodes, &acts);
        all_sent(&nodes).iter().for_each(|s| nodes[0].receive(s));
        let domain = &nodes[0].domain;
        let mut ids = Vec::new();
        for shard in 0..domain.shard_count() {
            for (contact, _) in domain.shard_contacts(shard) {
                let found = domain.by_id(contact.id);
                prop_assert_eq!(found.as_ref(), Some(&contact));
                ids.push(contact.id);
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
        prop_assert_eq!(domain.contact_count(), count);
        let mut sums = [0u64; BUCKETS];
        for shard in 0..domain.shard_count() {
            for (contact, _) in domain.shard_contacts(shard) {
                let sum = &mut sums[(contact.id >> 46) as usize % BUCKETS];
                *sum = sum.wrapping_add(contact.digest);
            }
        }
        prop_assert_eq!(domain.digests(NOW_S).buckets, sums);
    }
}
