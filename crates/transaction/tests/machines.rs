//! Every arrow of RFC 3261 figures 5 to 8, as changed by RFC 6026: the inputs that lead to a state,
//! the input of the arrow, what leaves, and the next state.

use crate::common;

use common::In::{self, *};
use common::World;
use tandem_transaction::{BranchIndex, ClientState as C, Kind, ServerState as S};

type Row<State> = (&'static str, &'static [In], In, &'static [&'static str], State);

fn check_clients(kind: Kind, rows: &[Row<C>]) {
    for &(name, before, arrow, effects, state) in rows {
        let mut world = World::new(kind, false);
        world.run(before);
        assert_eq!(world.run(&[arrow]), effects, "{name}");
        let branch = world.tx.branch(BranchIndex(0)).expect("branch 0");
        assert_eq!(branch.state, state, "{name}");
    }
}

fn check_servers(kind: Kind, reliable: bool, rows: &[Row<S>]) {
    for &(name, before, arrow, effects, state) in rows {
        let mut world = World::new(kind, reliable);
        world.run(before);
        assert_eq!(world.run(&[arrow]), effects, "{name}");
        assert_eq!(world.tx.server_state(), state, "{name}");
    }
}

#[test]
fn invite_client_follows_figure_5_and_rfc_6026() {
    const FAILED: &[&str] = &["ack 0", "over 0 486", "final 0 486"];
    const NO_REPLY: &[&str] = &["over 0 408 local", "final 0 408 local"];
    const ERROR: &[&str] = &["over 0 477 local", "final 0 477 local"];
    check_clients(
        Kind::Invite,
        &[
            ("INVITE from TU", &[], Udp, &["branch 0"], C::Calling),
            ("Calling, timer A", &[Udp], At(500), &["branch 0"], C::Calling),
            ("Calling, timer B", &[Udp, At(29_999)], At(30_000), NO_REPLY, C::Terminated),
            ("Calling, transport error", &[Udp], SendError(0), ERROR, C::Terminated),
            ("Calling, 100", &[Udp], Reply(0, 100), &[], C::Proceeding),
            ("Calling, 1xx", &[Udp], Reply(0, 180), &["relay 0 180"], C::Proceeding),
            ("Calling, 2xx", &[Udp], Reply(0, 200), &["over 0 200", "relay 0 200"], C::Accepted),
            ("Calling, 300-699", &[Udp], Reply(0, 486), FAILED, C::Completed),
            ("Calling, 300-699, TCP", &[Tcp], Reply(0, 486), FAILED, C::Terminated),
            (
                "Proceeding, 1xx",
                &[Udp, Reply(0, 180)],
                Reply(0, 183),
                &["relay 0 183"],
                C::Proceeding,
            ),
            ("Proceeding, no timer A", &[Udp, Reply(0, 100)], At(29_000), &[], C::Proceeding),
            (
                "Proceeding, 2xx",
                &[Udp, Reply(0, 180)],
                Reply(0, 200),
                &["over 0 200", "relay 0 200"],
                C::Accepted,
            ),
            ("Proceeding, 300-699", &[Udp, Reply(0, 180)], Reply(0, 486), FAILED, C::Completed),
            ("Proceeding, no send error", &[Udp, Reply(0, 180)], SendError(0), &[], C::Proceeding),
            (
                "Proceeding, timer C",
                &[Udp, Reply(0, 180)],
                At(120_000),
                &["cancel 0 no-answer", "over 0 408 local", "final 0 408 local"],
                C::Proceeding,
            ),
            ("Completed, 300-699", &[Udp, Reply(0, 486)], Reply(0, 486), &["ack 0"], C::Completed),
            ("Completed, 1xx", &[Udp, Reply(0, 486)], Reply(0, 180), &[], C::Completed),
            ("Completed, transport error", &[Udp, Reply(0, 486)], SendError(0), &[], C::Terminated),
            ("Completed, before D", &[Udp, Reply(0, 486)], At(4_999), &[], C::Completed),
            ("Completed, timer D", &[Udp, Reply(0, 486)], At(5_000), &[], C::Terminated),
            ("Accepted, 2xx", &[Udp, Reply(0, 200)], Reply(0, 200), &["relay 0 200"], C::Accepted),
            ("Accepted, 300-699", &[Udp, Reply(0, 200)], Reply(0, 486), &[], C::Accepted),
            ("Accepted, before M", &[Udp, Reply(0, 200)], At(31_999), &[], C::Accepted),
            ("Accepted, timer M", &[Udp, Reply(0, 200)], At(32_000), &[], C::Terminated),
            ("Accepted, TCP, timer M", &[Tcp, Reply(0, 200)], At(32_000), &[], C::Terminated),
        ],
    );
}

#[test]
fn non_invite_client_follows_figure_6() {
    const FAILED: &[&str] = &["over 0 404", "final 0 404"];
    const OK: &[&str] = &["over 0 200", "relay 0 200"];
    const NO_REPLY: &[&str] = &["over 0 408 local", "final 0 408 local"];
    const ERROR: &[&str] = &["over 0 477 local", "final 0 477 local"];
    check_clients(
        Kind::NonInvite,
        &[
            ("request from TU", &[], Udp, &["branch 0"], C::Calling),
            ("Trying, timer E", &[Udp], At(500), &["branch 0"], C::Calling),
            ("Trying, timer F", &[Udp, At(29_999)], At(30_000), NO_REPLY, C::Terminated),
            ("Trying, transport error", &[Udp], SendError(0), ERROR, C::Terminated),
            ("Trying, 1xx", &[Udp], Reply(0, 183), &["relay 0 183"], C::Proceeding),
            ("Trying, 2xx", &[Udp], Reply(0, 200), OK, C::Completed),
            ("Trying, 300-699", &[Udp], Reply(0, 404), FAILED, C::Completed),
            ("Trying, 2xx, TCP", &[Tcp], Reply(0, 200), OK, C::Terminated),
            ("Proceeding, timer E", &[Udp, Reply(0, 100)], At(500), &["branch 0"], C::Proceeding),
            (
                "Proceeding, timer F",
                &[Udp, Reply(0, 100), At(29_999)],
                At(30_000),
                NO_REPLY,
                C::Terminated,
            ),
            ("Proceeding, error", &[Udp, Reply(0, 100)], SendError(0), ERROR, C::Terminated),
            ("Proceeding, 1xx", &[Udp, Reply(0, 100)], Reply(0, 100), &[], C::Proceeding),
            ("Proceeding, 200-699", &[Udp, Reply(0, 100)], Reply(0, 200), OK, C::Completed),
            ("Completed, 200-699", &[Udp, Reply(0, 404)], Reply(0, 200), &[], C::Completed),
            ("Completed, before K", &[Udp, Reply(0, 404)], At(4_999), &[], C::Completed),
            ("Completed, timer K", &[Udp, Reply(0, 404)], At(5_000), &[], C::Terminated),
        ],
    );
}

#[test]
fn invite_server_follows_figure_7_and_rfc_6026() {
    check_servers(
        Kind::Invite,
        false,
        &[
            ("INVITE", &[], Request, &[], S::Proceeding),
            ("Proceeding, 1xx from TU", &[], Up(180), &["up 180"], S::Proceeding),
            ("Proceeding, INVITE", &[Up(100), Up(180)], Request, &["up 180"], S::Proceeding),
            ("Proceeding, send error", &[Up(180)], UpError, &[], S::Proceeding),
            ("Proceeding, ACK", &[Up(180)], Ack, &[], S::Proceeding),
            ("Proceeding, 2xx from TU", &[Up(180)], Up(200), &["up 200"], S::Accepted),
            ("Proceeding, 300-699 from TU", &[Up(180)], Up(486), &["up 486"], S::Completed),
            ("Completed, INVITE", &[Up(486)], Request, &["up 486"], S::Completed),
            ("Completed, timer G", &[Up(486)], At(500), &["up 486"], S::Completed),
            ("Completed, timer H", &[Up(486), At(29_999)], At(30_000), &["ended"], S::Terminated),
            ("Completed, transport error", &[Up(486)], UpError, &["ended"], S::Terminated),
            ("Completed, ACK", &[Up(486)], Ack, &[], S::Confirmed),
            ("Completed, 300-699 from TU", &[Up(486)], Up(487), &[], S::Completed),
            ("Confirmed, ACK", &[Up(486), Ack], Ack, &[], S::Confirmed),
            ("Confirmed, INVITE", &[Up(486), Ack], Request, &[], S::Confirmed),
            ("Confirmed, before I", &[Up(486), Ack], At(4_999), &[], S::Confirmed),
            ("Confirmed, timer I", &[Up(486), Ack], At(5_000), &["ended"], S::Terminated),
            ("Accepted, INVITE", &[Up(200)], Request, &["up 200"], S::Accepted),
            ("Accepted, ACK", &[Up(200)], Ack, &[], S::Accepted),
            ("Accepted, 2xx from TU", &[Up(200)], Up(200), &["up 200"], S::Accepted),
            ("Accepted, 300-699 from TU", &[Up(200)], Up(486), &[], S::Accepted),
            ("Accepted, transport error", &[Up(200)], UpError, &[], S::Accepted),
            ("Accepted, before L", &[Up(200)], At(31_999), &[], S::Accepted),
            ("Accepted, timer L", &[Up(200)], At(32_000), &["ended"], S::Terminated),
        ],
    );
    check_servers(
        Kind::Invite,
        true,
        &[
            ("Completed over TCP, no G", &[Up(486)], At(29_999), &[], S::Completed),
            ("Completed over TCP, timer H", &[Up(486)], At(30_000), &["ended"], S::Terminated),
            ("Completed over TCP, ACK", &[Up(486)], Ack, &["ended"], S::Terminated),
            ("Accepted over TCP, timer L", &[Up(200)], At(32_000), &["ended"], S::Terminated),
        ],
    );
}

#[test]
fn non_invite_server_follows_figure_8() {
    check_servers(
        Kind::NonInvite,
        false,
        &[
            ("Trying, request", &[], Request, &[], S::Trying),
            ("Trying, 1xx from TU", &[], Up(100), &["up 100"], S::Proceeding),
            ("Trying, 200-699 from TU", &[], Up(404), &["up 404"], S::Completed),
            ("Proceeding, request", &[Up(100)], Request, &["up 100"], S::Proceeding),
            ("Proceeding, 1xx from TU", &[Up(100)], Up(183), &["up 183"], S::Proceeding),
            ("Proceeding, transport error", &[Up(100)], UpError, &["ended"], S::Terminated),
            ("Proceeding, 200-699 from TU", &[Up(100)], Up(200), &["up 200"], S::Completed),
            ("Completed, request", &[Up(200)], Request, &["up 200"], S::Completed),
            ("Completed, ACK", &[Up(200)], Ack, &[], S::Completed),
            ("Completed, 200-699 from TU", &[Up(200)], Up(200), &[], S::Completed),
            ("Completed, transport error", &[Up(200)], UpError, &["ended"], S::Terminated),
            ("Completed, before J", &[Up(200)], At(4_999), &[], S::Completed),
            ("Completed, timer J", &[Up(200)], At(5_000), &["ended"], S::Terminated),
        ],
    );
    let over_tcp: Row<S> = ("J is 0 over TCP", &[], Up(200), &["up 200", "ended"], S::Terminated);
    check_servers(Kind::NonInvite, true, &[over_tcp]);
}
