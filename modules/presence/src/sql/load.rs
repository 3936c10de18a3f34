//! What is stored is taken in when the node starts: publications, then subscriptions.

use std::sync::Arc;

use tandem_db::{DbError, Rows};
use tandem_engine::log::Level;
use tandem_engine::module::Cx;

use super::{Asked, Sql, rows};
use crate::change::{Change, Origin};
use crate::package::Status;
use crate::record::{Key, Publication, Stamp, Subscription};
use crate::rules::{FORCED, UNJUDGED};
use crate::state::Presence;

impl Presence {
    pub(super) fn publications_loaded(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        result: Result<Rows, DbError>,
    ) {
        let next = match self.page(cx, result, "presentity") {
            Some(found) => {
                let next = rows::next_page(&found);
                self.take_publication_rows(cx, sql, &found, None);
                next
            }
            None => None,
        };
        match next {
            Some(id) => {
                sql.ask(cx, sql.tables.publications_behind(Some(id)), Asked::LoadPublications)
            }
            None => {
                let first = sql.tables.subscriptions_behind(None);
                sql.ask(cx, first, Asked::LoadSubscriptions);
            }
        }
    }

    pub(super) fn subscriptions_loaded(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        result: Result<Rows, DbError>,
    ) {
        if let Some(found) = self.page(cx, result, "active_watchers") {
            self.take_subscription_rows(cx, sql, &found);
            if let Some(id) = rows::next_page(&found) {
                let next = sql.tables.subscriptions_behind(Some(id));
                return sql.ask(cx, next, Asked::LoadSubscriptions);
            }
        }
        sql.state.lock().stale.clear();
        cx.end_startup();
    }

    /// Serving does not wait for a table that cannot be read.
    fn page(&self, cx: &mut Cx<'_>, result: Result<Rows, DbError>, table: &str) -> Option<Rows> {
        result.inspect_err(|error| cx.table_failed(table, error)).ok()
    }

    /// Takes rows of publications in.
    pub(super) fn take_publications(
        &self,
        cx: &mut Cx<'_>,
        of: Option<&Key>,
        result: Result<Rows, DbError>,
    ) {
        if let (Some(sql), Some(found)) = (&self.sql, self.page(cx, result, "presentity")) {
            self.take_publication_rows(cx, sql, &found, of);
        }
    }

    fn take_publication_rows(&self, cx: &mut Cx<'_>, sql: &Sql, found: &Rows, of: Option<&Key>) {
        let mut unreadable = 0;
        for row in &found.rows {
            match sql.tables.publication(row) {
                Some((key, publication)) if of.is_none_or(|of| *of == key) => {
                    self.take_publication(cx, sql, key, publication, of.is_none());
                }
                // A database may compare letters of any case as equal.
                Some(_) => {}
                None => unreadable += 1,
            }
        }
        if unreadable > 0 {
            let text = format!("{unreadable} stored publications cannot be read");
            cx.log(Level::Warning, text);
        }
    }

    /// `is_loading`: the whole table is read, at start.
    fn take_publication(
        &self,
        cx: &mut Cx<'_>,
        sql: &Sql,
        key: Key,
        mut publication: Publication,
        is_loading: bool,
    ) {
        if !publication.is_live(cx.now.unix_s()) {
            if is_loading {
                sql.state.lock().stale.insert(key);
            }
            return;
        }
        let key = Arc::new(key);
        if !self.is_replicated() && !self.is_newer_row(&key, &mut publication) {
            return;
        }
        // The id that it has in memory may be that of another ETag.
        if let Some(known) = self.table.read(&key, |p| p.publication(&publication.etag).cloned()) {
            match known {
                Some(known) if known.stamp >= publication.stamp => return,
                Some(known) => publication.id = known.id,
                None => {}
            }
        }
        if self.params.checks_sphere
            && let Some(package) = self.package(&key.event)
        {
            publication.sphere = package.sphere(&publication.body).unwrap_or_default()[..].into();
        }
        let change = Change::publish(publication);
        // What is refused is known better here.
        if let Ok(done) = self.apply(cx, &key, Origin::Database, change) {
            self.follow(cx, &key, Origin::Database, &done);
        }
    }

    /// Whether a row is newer than the same publication in memory, if that is there. Each change
    /// counts the ETag up, on whatever node; the time of receipt is in seconds, and the body's.
    fn is_newer_row(&self, key: &Key, row: &mut Publication) -> bool {
        let same = self.table.read(key, |p| {
            let mut all = p.publications.iter().map(|p| &p.publication);
            all.find(|p| p.id == row.id).cloned()
        });
        let Some(known) = same.flatten() else { return true };
        if rows::count_of(&known.etag) >= rows::count_of(&row.etag) {
            return false;
        }
        let later = Stamp { time_us: known.stamp.time_us.saturating_add(1), node: 0 };
        row.stamp = row.stamp.max(later);
        if (known.received_s, &known.body) == (row.received_s, &row.body) {
            row.said = known.said;
        }
        true
    }

    /// Takes rows of subscriptions in.
    pub(super) fn take_subscriptions(&self, cx: &mut Cx<'_>, result: Result<Rows, DbError>) {
        if let (Some(sql), Some(found)) = (&self.sql, self.page(cx, result, "active_watchers")) {
            self.take_subscription_rows(cx, sql, &found);
        }
    }

    fn take_subscription_rows(&self, cx: &mut Cx<'_>, sql: &Sql, found: &Rows) {
        let now_s = cx.now.unix_s();
        let mut unreadable = 0;
        for row in &found.rows {
            let Some((key, s)) = sql.tables.subscription(row) else {
                unreadable += 1;
                continue;
            };
            let lives = u64::from(s.expires_s) > now_s && s.status != Status::Terminated;
            if lives {
                self.take_subscription(cx, sql, key, s);
            }
        }
        if unreadable > 0 {
            let text = format!("{unreadable} stored subscriptions cannot be read");
            cx.log(Level::Warning, text);
        }
    }

    fn take_subscription(&self, cx: &mut Cx<'_>, sql: &Sql, key: Key, mut s: Subscription) {
        let key = Arc::new(key);
        if self.table.subscription(&key, &s.id).is_some_and(|k| k.remote_cseq >= s.remote_cseq) {
            return;
        }
        s.creator = cx.node.membership().node_id();
        // The watcher knows what was stored, unless that has ended meanwhile.
        let is_stale = sql.state.lock().stale.contains(&*key);
        if let Some(package) = self.package(&key.event).filter(|_| !is_stale)
            && let Some(said) = self.said(cx, &key, &*package)
        {
            (s.sent.told, s.sent.told_cseq) = (said.mark, s.sent.cseq);
        }
        // No column says what of the state the watcher may see: until the rules have been asked
        // again, nothing.
        let is_ruled = self.package(&key.event).is_some_and(|package| package.has_rules());
        if is_ruled && s.status == Status::Active && *s.reason != *FORCED {
            s.view = UNJUDGED.into();
        }
        let change = Change::subscribe(s);
        if let Ok(done) = self.apply(cx, &key, Origin::Database, change) {
            self.follow(cx, &key, Origin::Database, &done);
            if is_ruled {
                self.ask_rules_again(cx, &key);
            }
        }
    }
}
