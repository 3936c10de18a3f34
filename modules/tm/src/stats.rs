//! Statistics: the table and the places in it.

use tandem_engine::stats::StatDef;
use tandem_engine::table::{counter, gauge};

pub(crate) const RECEIVED_REPLIES: usize = 0;
pub(crate) const RELAYED_REPLIES: usize = 1;
pub(crate) const LOCAL_REPLIES: usize = 2;
pub(crate) const UAS_TRANSACTIONS: usize = 3;
/// The first of five, for 2xx to 6xx.
pub(crate) const CLASSES: usize = 4;
pub(crate) const INUSE: usize = 9;
/// The first of four: first, second, third, later.
pub(crate) const RETRANSMITTED_REQUESTS: usize = 10;
pub(crate) const RETRANSMITTED_REPLIES: usize = 14;
pub(crate) const TIMEOUT: usize = 15;
pub(crate) const TIMEOUT_INVITE: usize = 16;
pub(crate) const DROPPED_EVENTS: usize = 17;
pub(crate) const UAC_TRANSACTIONS: usize = 18;
pub(crate) const CLUSTER_REPLY_SENT: usize = 19;
pub(crate) const CLUSTER_REQUEST_SENT: usize = 20;
pub(crate) const CLUSTER_CANCEL_SENT: usize = 21;
pub(crate) const CLUSTER_REPLY_RECV: usize = 22;
pub(crate) const CLUSTER_REQUEST_RECV: usize = 23;
pub(crate) const CLUSTER_CANCEL_RECV: usize = 24;

pub(crate) const STATISTICS: &[StatDef] = &[
    counter("received_replies", "Replies seen by tm."),
    counter("relayed_replies", "Replies relayed."),
    counter("local_replies", "Replies generated here."),
    counter("UAS_transactions", "Transactions of received requests."),
    counter("2xx_transactions", "Transactions completed with 2xx."),
    counter("3xx_transactions", "Transactions completed with 3xx."),
    counter("4xx_transactions", "Transactions completed with 4xx."),
    counter("5xx_transactions", "Transactions completed with 5xx."),
    counter("6xx_transactions", "Transactions completed with 6xx."),
    gauge("inuse_transactions", "Transactions in memory now."),
    counter("retransmission_req_T1_1", "First retransmissions of requests."),
    counter("retransmission_req_T1_2", "Second retransmissions of requests."),
    counter("retransmission_req_T1_3", "Third retransmissions of requests."),
    counter("retransmission_req_T2", "Later retransmissions of requests."),
    counter("retransmission_rpl_T2", "Retransmissions of replies by timer."),
    counter("timeout_finalresponse", "Branches that got no reply in fr_timeout."),
    counter("timeout_finalresponse_inv", "Branches that got no final reply in fr_inv_timeout."),
    counter("dropped_events", "Events dropped because a route of their transaction ran too long."),
    counter("UAC_transactions", "Transactions of requests of this node."),
    counter("cluster_reply_sent", "Replies handed to the node that sent their request."),
    counter("cluster_request_sent", "Requests handed to all nodes of the anycast cluster."),
    counter("cluster_cancel_sent", "CANCELs handed to all nodes of the anycast cluster."),
    counter("cluster_reply_recv", "Replies that other nodes got for this one."),
    counter("cluster_request_recv", "Requests that other nodes have handed on."),
    counter("cluster_cancel_recv", "CANCELs that other nodes have handed on."),
];
