-- Feed ids begin above those that any earlier database of this installation gave out, so that a reader's old cursor repeats
-- events and never misses one. Below 2^53 for 285 years.
INSERT INTO feed (one, head) VALUES (1, CAST(EXTRACT(EPOCH FROM date_trunc('second', now())) AS BIGINT) * 1000000);

CREATE FUNCTION journal_leg_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'journal: a leg never changes' USING ERRCODE = 'check_violation';
    ELSIF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT 1 FROM journal_entries e
                   WHERE e.partition = NEW.partition AND e.sequence = NEW.sequence AND e.sealed = 1) THEN
            RAISE EXCEPTION 'journal: a sealed entry takes no more legs' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF EXISTS (SELECT 1 FROM journal_entries e
               WHERE e.partition = OLD.partition AND e.sequence = OLD.sequence AND e.sealed = 1) THEN
        RAISE EXCEPTION 'journal: a sealed entry keeps its legs' USING ERRCODE = 'check_violation';
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER journal_leg_guarded BEFORE INSERT OR UPDATE OR DELETE ON journal_legs
FOR EACH ROW EXECUTE FUNCTION journal_leg_guard();

-- The sums of the limbs, carried upwards, must all be nothing. Division of what is divisible is exact, below zero too.
CREATE FUNCTION journal_entry_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.sealed <> 0 THEN
            RAISE EXCEPTION 'journal: an entry begins open' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.sealed = 1 OR NEW.partition <> OLD.partition OR NEW.sequence <> OLD.sequence OR NEW.legs <> OLD.legs THEN
        RAISE EXCEPTION 'journal: an entry changes only by being sealed' USING ERRCODE = 'check_violation';
    END IF;
    IF (SELECT COUNT(*) FROM journal_legs l WHERE l.partition = NEW.partition AND l.sequence = NEW.sequence) <> NEW.legs THEN
        RAISE EXCEPTION 'journal: the entry does not have all its legs' USING ERRCODE = 'check_violation';
    END IF;
    IF EXISTS (
        SELECT 1 FROM (
            SELECT CAST(SUM(CASE l.side WHEN 0 THEN l.a0 ELSE -l.a0 END) AS BIGINT) AS d0,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a1 ELSE -l.a1 END) AS BIGINT) AS d1,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a2 ELSE -l.a2 END) AS BIGINT) AS d2,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a3 ELSE -l.a3 END) AS BIGINT) AS d3
            FROM journal_legs l WHERE l.partition = NEW.partition AND l.sequence = NEW.sequence GROUP BY l.asset
        ) AS sums
        WHERE d0 % 4294967296 <> 0
           OR (d1 + d0 / 4294967296) % 4294967296 <> 0
           OR (d2 + (d1 + d0 / 4294967296) / 4294967296) % 4294967296 <> 0
           OR d3 + (d2 + (d1 + d0 / 4294967296) / 4294967296) / 4294967296 <> 0
    ) THEN
        RAISE EXCEPTION 'journal: debits and credits of the entry differ' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER journal_entry_guarded BEFORE INSERT OR UPDATE ON journal_entries
FOR EACH ROW EXECUTE FUNCTION journal_entry_guard();
