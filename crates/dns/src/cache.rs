//! What the DNS has said, for as long as it may be believed.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use tandem_clock::{Mono, Now};

use crate::Answer;
use crate::name::Question;

/// Limits of the time to live, in seconds: of an answer, of its absence, of a failure. A day-long
/// error of somebody else should not last a day here, and a name that is missed a thousand times
/// a second is not asked for as often.
const TTL_MAX_S: u32 = 86_400;
const ABSENT_S: (u32, u32) = (1, 300);
const FAILED_S: u32 = 5;
/// How long after its time an answer is better than none (RFC 8767), and for how long it is used
/// before the DNS is asked again.
const STALE_MAX_S: u32 = 86_400;
const STALE_S: u32 = 30;

/// A bounded table of answers. When it is full, the oldest goes first.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<Question, Entry, RandomState>,
    /// Questions in the order in which they were answered, with the number of the entry.
    order: VecDeque<(Question, u64)>,
    entries_max: usize,
    number: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    until: Mono,
    /// Until then it is used where the DNS does not answer.
    stale_until: Mono,
    number: u64,
}

impl Entry {
    /// Whether it is used where the DNS does not answer.
    fn is_usable(&self, now: Now) -> bool {
        !self.answer.failed && self.stale_until > now.mono_ns
    }
}

impl Cache {
    /// An empty cache for so many answers. The names come from strangers, so the hasher is keyed.
    pub fn new(entries_max: usize, hasher: RandomState) -> Self {
        let entries = HashMap::with_hasher(hasher);
        Self { entries, order: VecDeque::new(), entries_max, number: 0 }
    }

    /// What is known at this moment.
    pub fn get(&self, now: Now, question: &Question) -> Option<&Answer> {
        let entry = self.entries.get(question)?;
        (entry.until > now.mono_ns).then_some(&entry.answer)
    }

    /// Keeps an answer and gives back what is to be believed: where the DNS failed, what it said
    /// last, unless that is too old. One that may not be kept (time to live 0) is forgotten at once.
    pub fn put(&mut self, now: Now, question: &Question, answer: &Answer) -> Answer {
        if answer.failed
            && let Some(last) = self.entries.get_mut(question).filter(|e| e.is_usable(now))
        {
            last.until = now.after_s(u64::from(STALE_S)).min(last.stale_until);
            return last.answer.clone();
        }
        let ttl_s = match answer {
            a if a.failed => FAILED_S,
            a if a.records.is_empty() => a.ttl_s.clamp(ABSENT_S.0, ABSENT_S.1),
            a => a.ttl_s.min(TTL_MAX_S),
        };
        let stale_s = if answer.failed || ttl_s == 0 { 0 } else { STALE_MAX_S };
        self.number += 1;
        let (number, until) = (self.number, now.after_s(u64::from(ttl_s)));
        let stale_until = now.after_s(u64::from(ttl_s) + u64::from(stale_s));
        let entry = Entry { answer: answer.clone(), until, stale_until, number };
        self.entries.insert(question.clone(), entry);
        self.order.push_back((question.clone(), number));
        self.shrink();
        answer.clone()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    fn shrink(&mut self) {
        // An answer that was renewed leaves its old place behind.
        while self.entries.len() > self.entries_max || self.order.len() > 2 * self.entries_max {
            let Some((question, number)) = self.order.pop_front() else { return };
            if self.entries.get(&question).is_some_and(|e| e.number == number) {
                self.entries.remove(&question);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Name, Record, RecordKind};

    fn at(s: u64) -> Now {
        Now { mono_ns: s * tandem_clock::SEC, unix_ms: 0 }
    }

    fn question(name: &str) -> Question {
        Question::new(&Name::parse(name.as_bytes()).unwrap(), RecordKind::A)
    }

    fn cache(max: usize) -> Cache {
        Cache::new(max, RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn answers_absences_and_failures_are_believed_for_their_time() {
        let mut cache = cache(10);
        let ip = Answer::of(vec![Record::Ip([10, 0, 0, 1].into())], 60);
        cache.put(at(0), &question("a"), &ip);
        cache.put(at(0), &question("none"), &Answer::none(86_400));
        cache.put(at(0), &question("silent"), &Answer::failure());
        cache.put(at(0), &question("zero"), &Answer { ttl_s: 0, ..ip.clone() });
        assert_eq!(cache.get(at(59), &question("a")), Some(&ip));
        assert_eq!(cache.get(at(60), &question("a")), None);
        assert!(cache.get(at(299), &question("none")).is_some());
        assert!(cache.get(at(300), &question("none")).is_none());
        assert!(cache.get(at(4), &question("silent")).is_some());
        assert!(cache.get(at(5), &question("silent")).is_none());
        assert!(cache.get(at(0), &question("zero")).is_none());
        assert!(cache.get(at(0), &question("b")).is_none());
    }

    #[test]
    fn what_was_said_last_holds_where_the_dns_does_not_answer() {
        let mut cache = cache(10);
        let (a, none, zero) = (question("a"), question("none"), question("zero"));
        let ip = Answer::of(vec![Record::Ip([10, 0, 0, 1].into())], 60);
        let failure = Answer::failure();
        cache.put(at(0), &a, &ip);
        cache.put(at(0), &none, &Answer::none(60));
        cache.put(at(0), &zero, &Answer { ttl_s: 0, ..ip.clone() });
        assert_eq!(cache.get(at(60), &a), None, "it is asked again");
        assert_eq!(cache.put(at(62), &a, &failure), ip);
        assert_eq!(cache.get(at(91), &a), Some(&ip), "for a while it is not");
        assert_eq!(cache.get(at(92), &a), None);
        assert_eq!(cache.put(at(95), &none, &failure), Answer::none(60));
        assert_eq!(cache.put(at(1), &zero, &failure), failure, "it was not to be kept");
        assert_eq!(cache.put(at(1), &question("b"), &failure), failure);
        // A day later nobody believes it any more.
        let end = 60 + u64::from(STALE_MAX_S);
        assert_eq!(cache.put(at(end - 10), &a, &failure), ip);
        assert_eq!(cache.get(at(end), &a), None);
        assert_eq!(cache.put(at(end), &a, &failure), failure);
        // What is said counts, and be it that there is nothing.
        cache.put(at(end + 9), &a, &ip);
        assert_eq!(cache.put(at(end + 80), &a, &Answer::none(60)), Answer::none(60));
    }

    #[test]
    fn it_never_grows_beyond_its_bound_and_the_oldest_goes() {
        let mut cache = cache(3);
        for n in 0..100 {
            cache.put(at(0), &question(&format!("n{n}")), &Answer::none(60));
            // The same name again and again leaves nothing behind either.
            cache.put(at(0), &question("again"), &Answer::none(60));
            assert!(cache.len() <= 3 && cache.order.len() <= 6);
        }
        assert!(cache.get(at(1), &question("again")).is_some());
        assert!(cache.get(at(1), &question("n99")).is_some());
        assert!(cache.get(at(1), &question("n0")).is_none());
    }
}
