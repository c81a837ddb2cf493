-- The read model. One text for both databases: BYTES becomes BYTEA in PostgreSQL and BLOB in SQLite.
--
-- Times are milliseconds of the Unix epoch, taken from the log. Amounts that are only shown are decimal digits of base units.
-- Amounts that are added up (journal legs, balances) are four 32-bit limbs, least first, each in a 64-bit column: a sum of up
-- to 2^31 rows of them is exact in 64 bits in both databases, whatever the amounts are.

CREATE TABLE positions (
    partition     BIGINT NOT NULL PRIMARY KEY,
    next_offset   BIGINT NOT NULL CHECK (next_offset >= 0),
    last_sequence BIGINT NOT NULL CHECK (last_sequence >= 0),
    last_hash     BYTES NOT NULL
);

-- One row: the newest feed id. Its lock puts the projectors' commits in the order of the ids that they give out.
CREATE TABLE feed (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    head BIGINT NOT NULL
);

CREATE TABLE events (
    partition        BIGINT NOT NULL,
    sequence         BIGINT NOT NULL,
    feed_id          BIGINT NOT NULL UNIQUE,
    account          BYTES NOT NULL,
    account_sequence BIGINT NOT NULL,
    saga             BYTES,
    kind             TEXT NOT NULL,
    happened_at      BIGINT NOT NULL,
    payload          BYTES NOT NULL,
    hash             BYTES NOT NULL,
    PRIMARY KEY (partition, sequence),
    UNIQUE (account, account_sequence)
);
CREATE INDEX events_of_account ON events (account, feed_id);
CREATE INDEX events_of_saga ON events (saga, happened_at, partition, sequence);

CREATE TABLE accounts (
    account    BYTES NOT NULL PRIMARY KEY,
    tenant     TEXT NOT NULL,
    client_key TEXT NOT NULL,
    opened_at  BIGINT NOT NULL,
    partition  BIGINT NOT NULL,
    sequence   BIGINT NOT NULL
);
CREATE INDEX accounts_in_order ON accounts (opened_at, partition, sequence);

CREATE TABLE addresses (
    chain          TEXT NOT NULL,
    address        BYTES NOT NULL,
    account        BYTES NOT NULL,
    saga           BYTES,
    wallet         BYTES NOT NULL,
    path           TEXT NOT NULL,
    watched_number BIGINT NOT NULL,
    watched_hash   BYTES NOT NULL,
    issued_at      BIGINT NOT NULL,
    partition      BIGINT NOT NULL,
    sequence       BIGINT NOT NULL,
    PRIMARY KEY (chain, address)
);
CREATE INDEX addresses_of_account ON addresses (account, sequence);

CREATE TABLE operations (
    saga             BYTES NOT NULL PRIMARY KEY,
    account          BYTES NOT NULL,
    kind             TEXT NOT NULL CHECK (kind IN ('issue-address', 'withdrawal', 'transfer', 'deposit')),
    status           TEXT NOT NULL CHECK (status IN ('running', 'parked', 'completed', 'refused')),
    step             TEXT,
    phase            TEXT CHECK (phase IN ('asked', 'done', 'undone')),
    awaits_approval  BIGINT NOT NULL CHECK (awaits_approval IN (0, 1)),
    client_key       TEXT,
    chain            TEXT,
    asset            TEXT,
    amount           TEXT,
    to_address       BYTES,
    to_account       BYTES,
    fee_max          TEXT,
    fee_asset        TEXT,
    intent           BYTES,
    refusal          TEXT,
    parked_code      TEXT,
    started_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    ended_at         BIGINT,
    partition        BIGINT NOT NULL,
    started_sequence BIGINT NOT NULL,
    updated_sequence BIGINT NOT NULL,
    ended_sequence   BIGINT
);
CREATE INDEX operations_of_account ON operations (account, started_at, partition, started_sequence);
CREATE INDEX operations_in_order ON operations (started_at, partition, started_sequence);
CREATE INDEX operations_by_status ON operations (status, started_at, partition, started_sequence);
CREATE INDEX operations_by_approval ON operations (awaits_approval, started_at, partition, started_sequence);

CREATE TABLE operation_steps (
    partition   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    saga        BYTES NOT NULL,
    step        TEXT NOT NULL,
    phase       TEXT NOT NULL CHECK (phase IN ('asked', 'done', 'undone')),
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX operation_steps_of_saga ON operation_steps (saga, sequence);

CREATE TABLE deposits (
    chain        TEXT NOT NULL,
    tx           BYTES NOT NULL,
    place        BIGINT NOT NULL,
    account      BYTES NOT NULL,
    saga         BYTES,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'unseen', 'credited', 'quarantined', 'reversed')),
    block_number BIGINT NOT NULL,
    block_hash   BYTES NOT NULL,
    sender       BYTES NOT NULL,
    receiver     BYTES NOT NULL,
    asset        TEXT NOT NULL,
    amount       TEXT NOT NULL,
    seen_at      BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    partition    BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    PRIMARY KEY (chain, tx, place)
);
CREATE INDEX deposits_of_account ON deposits (account, seen_at, partition, sequence);
CREATE INDEX deposits_in_order ON deposits (seen_at, partition, sequence);

CREATE TABLE payments (
    saga         BYTES NOT NULL PRIMARY KEY,
    status       TEXT NOT NULL CHECK (status IN ('taken', 'signed', 'seen', 'final', 'impossible')),
    intent       BYTES,
    tx           BYTES,
    nonce        BIGINT,
    attempts     BIGINT NOT NULL,
    block_number BIGINT,
    block_hash   BYTES,
    fee          TEXT,
    succeeded    BIGINT CHECK (succeeded IN (0, 1)),
    updated_at   BIGINT NOT NULL
);
CREATE INDEX payments_by_tx ON payments (tx);

CREATE TABLE payment_signatures (
    partition   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    saga        BYTES NOT NULL,
    attempt     BIGINT NOT NULL,
    tx          BYTES NOT NULL,
    nonce       BIGINT NOT NULL,
    digest      BYTES NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX payment_signatures_of_saga ON payment_signatures (saga, sequence);

CREATE TABLE transfers (
    partition   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    saga        BYTES NOT NULL,
    sender      BYTES NOT NULL,
    receiver    BYTES NOT NULL,
    asset       TEXT NOT NULL,
    amount      TEXT NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX transfers_to ON transfers (receiver, happened_at, partition, sequence);

CREATE TABLE approvals (
    saga      BYTES NOT NULL,
    digest    BYTES NOT NULL,
    intent    BYTES NOT NULL,
    quorum    BIGINT NOT NULL,
    asked_at  BIGINT NOT NULL,
    partition BIGINT NOT NULL,
    sequence  BIGINT NOT NULL,
    PRIMARY KEY (saga, digest)
);

CREATE TABLE decisions (
    partition      BIGINT NOT NULL,
    sequence       BIGINT NOT NULL,
    saga           BYTES NOT NULL,
    officer        TEXT NOT NULL,
    verdict        TEXT NOT NULL CHECK (verdict IN ('approve', 'reject')),
    digest         BYTES NOT NULL,
    policy_version BIGINT NOT NULL,
    happened_at    BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX decisions_of_saga ON decisions (saga, sequence);

CREATE TABLE screenings (
    partition   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    saga        BYTES,
    step        TEXT NOT NULL,
    clear       BIGINT NOT NULL CHECK (clear IN (0, 1)),
    codes       TEXT NOT NULL,
    versions    TEXT NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX screenings_of_saga ON screenings (saga, sequence);

CREATE TABLE marks (
    partition    BIGINT NOT NULL,
    chain        TEXT NOT NULL,
    path         TEXT NOT NULL CHECK (path IN ('deposits', 'payments')),
    block_number BIGINT NOT NULL,
    block_hash   BYTES NOT NULL,
    marked_at    BIGINT NOT NULL,
    PRIMARY KEY (partition, chain, path)
);

CREATE TABLE alarms (
    partition   BIGINT NOT NULL,
    sequence    BIGINT NOT NULL,
    account     BYTES NOT NULL,
    saga        BYTES,
    code        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX alarms_in_order ON alarms (happened_at, partition, sequence);

CREATE TABLE policies (
    partition  BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    digest     BYTES NOT NULL,
    adopted_at BIGINT NOT NULL,
    sequence   BIGINT NOT NULL,
    PRIMARY KEY (partition, version)
);

-- The only value that `journal_entries.sealed` may have when a transaction commits.
CREATE TABLE seals (
    sealed BIGINT NOT NULL PRIMARY KEY CHECK (sealed = 1)
);
INSERT INTO seals (sealed) VALUES (1);

-- An entry is inserted open (sealed = 0), gets its legs, and is sealed. Sealing is refused unless debits equal credits for every
-- asset; committing an open entry is refused by the deferred foreign key; a sealed entry takes no leg and changes no leg.
-- So no entry that does not balance can ever be committed, whoever writes.
CREATE TABLE journal_entries (
    partition    BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    account      BYTES NOT NULL,
    saga         BYTES,
    reason       TEXT NOT NULL,
    chain        TEXT,
    block_number BIGINT,
    block_hash   BYTES,
    happened_at  BIGINT NOT NULL,
    legs         BIGINT NOT NULL CHECK (legs >= 2),
    sealed       BIGINT NOT NULL REFERENCES seals (sealed) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (partition, sequence)
);
CREATE INDEX journal_entries_of_saga ON journal_entries (saga, sequence);

-- `holder` is an account id (16 bytes) for a client's books, or a partition (4 bytes, big endian) for the house's books there.
-- `side` is 0 for a debit and 1 for a credit. Chain and block are those of the entry.
CREATE TABLE journal_legs (
    partition    BIGINT NOT NULL,
    sequence     BIGINT NOT NULL,
    leg          BIGINT NOT NULL,
    holder       BYTES NOT NULL,
    book         TEXT NOT NULL CHECK (book IN ('available', 'held', 'pending', 'frozen', 'custody', 'in-flight', 'fees', 'gas',
                                               'funding', 'in-transit', 'suspense')),
    asset        TEXT NOT NULL,
    side         BIGINT NOT NULL CHECK (side IN (0, 1)),
    a0           BIGINT NOT NULL CHECK (a0 BETWEEN 0 AND 4294967295),
    a1           BIGINT NOT NULL CHECK (a1 BETWEEN 0 AND 4294967295),
    a2           BIGINT NOT NULL CHECK (a2 BETWEEN 0 AND 4294967295),
    a3           BIGINT NOT NULL CHECK (a3 BETWEEN 0 AND 4294967295),
    chain        TEXT,
    block_number BIGINT,
    PRIMARY KEY (partition, sequence, leg),
    FOREIGN KEY (partition, sequence) REFERENCES journal_entries (partition, sequence) ON DELETE CASCADE
);
CREATE INDEX journal_legs_by_holder ON journal_legs (holder, book, asset);
CREATE INDEX journal_legs_by_block ON journal_legs (book, asset, chain, block_number);

-- Debits minus credits of every book, limb by limb: the running sum of `journal_legs`.
CREATE TABLE balances (
    holder BYTES NOT NULL,
    book   TEXT NOT NULL,
    asset  TEXT NOT NULL,
    d0     BIGINT NOT NULL,
    d1     BIGINT NOT NULL,
    d2     BIGINT NOT NULL,
    d3     BIGINT NOT NULL,
    PRIMARY KEY (holder, book, asset)
);
CREATE INDEX balances_by_asset ON balances (asset, book);
