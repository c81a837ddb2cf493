//! Somebody outside of every process of ours who reads and writes the log: it never dies, but its connection may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use custos_journal::{Entry, Feed, Journal, JournalError, SimulatedCluster, Start};
use custos_messages::{Keyring, Mail, Record, ReplyTo, Source, Topic};
use custos_runtime::post::Post;

/// Records of one look.
const MOST: usize = 500;

/// A connection that is made again when it breaks.
pub struct Outside {
    cluster: Arc<SimulatedCluster>,
    keyring: Arc<Keyring>,
    partitions: u32,
    journal: Arc<dyn Journal>,
    posts: BTreeMap<Source, Post>,
    feeds: BTreeMap<(Topic, u32), Box<dyn Feed>>,
    next: BTreeMap<(Topic, u32), u64>,
}

impl Outside {
    /// A connection to `cluster`.
    #[must_use]
    pub fn new(cluster: Arc<SimulatedCluster>, keyring: Arc<Keyring>, partitions: u32) -> Self {
        let journal = Arc::new(cluster.process());
        let (posts, feeds, next) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { cluster, keyring, partitions, journal, posts, feeds, next }
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// Partitions of every machine.
    #[must_use]
    pub const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Everything new in a partition, whole or up to a bound; nothing while the log does not answer.
    pub fn look(&mut self, topic: Topic, partition: u32) -> Vec<Entry> {
        match self.read(topic, partition) {
            Ok(entries) => entries,
            Err(_) => {
                self.again();
                Vec::new()
            }
        }
    }

    fn read(&mut self, topic: Topic, partition: u32) -> Result<Vec<Entry>, JournalError> {
        let place = (topic, partition);
        let from = self.next.get(&place).map_or(Start::Earliest, |next| Start::At(*next));
        let feed = match self.feeds.entry(place) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(self.journal.read(topic, partition, from)?),
        };
        let entries = feed.poll(MOST, Duration::ZERO)?;
        if let Some(last) = entries.last() {
            self.next.insert(place, last.offset.saturating_add(1));
        }
        Ok(entries)
    }

    /// Says something as `source`; `false` if it is not known whether the log has it.
    pub fn say(&mut self, source: Source, mail: &Mail, reply_to: Option<ReplyTo>) -> bool {
        let said = self.post(source).and_then(|post| post.send(mail, reply_to));
        if said.is_err() {
            self.again();
        }
        said.is_ok()
    }

    fn post(&mut self, source: Source) -> Result<Post, JournalError> {
        if let Some(post) = self.posts.get(&source) {
            return Ok(post.clone());
        }
        let post = Post::new(&*self.journal, Arc::clone(&self.keyring), source, self.partitions)?;
        self.posts.insert(source, post.clone());
        Ok(post)
    }

    /// Puts a record into a partition; `false` if it is not known whether the log has it.
    pub fn write(&mut self, topic: Topic, partition: u32, record: Record) -> bool {
        let written = self.journal.appender().and_then(|appender| appender.append(topic, partition, record));
        if written.is_err() {
            self.again();
        }
        written.is_ok()
    }

    /// The log itself, for what is neither read nor said here.
    #[must_use]
    pub fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    fn again(&mut self) {
        self.feeds.clear();
        self.posts.clear();
        self.journal = Arc::new(self.cluster.process());
    }
}
