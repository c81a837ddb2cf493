-- Feed ids begin above those that any earlier database of this installation gave out, so that a reader's old cursor repeats
-- events and never misses one. Below 2^53 for 285 years.
INSERT INTO feed (one, head) VALUES (1, CAST(strftime('%s', 'now') AS INTEGER) * 1000000);

CREATE TRIGGER journal_leg_inserted BEFORE INSERT ON journal_legs
WHEN EXISTS (SELECT 1 FROM journal_entries e WHERE e.partition = NEW.partition AND e.sequence = NEW.sequence AND e.sealed = 1)
BEGIN
    SELECT RAISE(ABORT, 'journal: a sealed entry takes no more legs');
END;

CREATE TRIGGER journal_leg_updated BEFORE UPDATE ON journal_legs
BEGIN
    SELECT RAISE(ABORT, 'journal: a leg never changes');
END;

CREATE TRIGGER journal_leg_deleted BEFORE DELETE ON journal_legs
WHEN EXISTS (SELECT 1 FROM journal_entries e WHERE e.partition = OLD.partition AND e.sequence = OLD.sequence AND e.sealed = 1)
BEGIN
    SELECT RAISE(ABORT, 'journal: a sealed entry keeps its legs');
END;

CREATE TRIGGER journal_entry_inserted BEFORE INSERT ON journal_entries
WHEN NEW.sealed <> 0
BEGIN
    SELECT RAISE(ABORT, 'journal: an entry begins open');
END;

CREATE TRIGGER journal_entry_updated BEFORE UPDATE ON journal_entries
WHEN OLD.sealed = 1 OR NEW.partition <> OLD.partition OR NEW.sequence <> OLD.sequence OR NEW.legs <> OLD.legs
BEGIN
    SELECT RAISE(ABORT, 'journal: an entry changes only by being sealed');
END;

-- The sums of the limbs, carried upwards, must all be nothing. Division of what is divisible is exact, below zero too.
CREATE TRIGGER journal_entry_sealed BEFORE UPDATE OF sealed ON journal_entries
WHEN NEW.sealed = 1
BEGIN
    SELECT RAISE(ABORT, 'journal: the entry does not have all its legs')
    WHERE (SELECT COUNT(*) FROM journal_legs l WHERE l.partition = NEW.partition AND l.sequence = NEW.sequence) <> NEW.legs;
    SELECT RAISE(ABORT, 'journal: debits and credits of the entry differ')
    WHERE EXISTS (
        SELECT 1 FROM (
            SELECT SUM(CASE l.side WHEN 0 THEN l.a0 ELSE -l.a0 END) AS d0, SUM(CASE l.side WHEN 0 THEN l.a1 ELSE -l.a1 END) AS d1,
                   SUM(CASE l.side WHEN 0 THEN l.a2 ELSE -l.a2 END) AS d2, SUM(CASE l.side WHEN 0 THEN l.a3 ELSE -l.a3 END) AS d3
            FROM journal_legs l WHERE l.partition = NEW.partition AND l.sequence = NEW.sequence GROUP BY l.asset
        )
        WHERE d0 % 4294967296 <> 0
           OR (d1 + d0 / 4294967296) % 4294967296 <> 0
           OR (d2 + (d1 + d0 / 4294967296) / 4294967296) % 4294967296 <> 0
           OR d3 + (d2 + (d1 + d0 / 4294967296) / 4294967296) / 4294967296 <> 0
    );
END;
