-- Feed ids begin above those that any earlier database of this installation gave out, so that a reader's old cursor repeats
-- events and never misses one. Below 2^53 for 285 years.
INSERT INTO feed (one, head) VALUES (1, CAST(EXTRACT(EPOCH FROM date_trunc('second', now())) AS BIGINT) * 1000000);

-- The rules look at what a statement has done as a whole: asked row by row they cost several times what the rows cost. Questions of a
-- row to another table are scalar or lateral, so that each is a look into that table's index, however large the table is.

CREATE FUNCTION journal_legs_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM (SELECT DISTINCT partition, sequence FROM added) AS l
        WHERE (SELECT e.sealed FROM journal_entries e WHERE e.partition = l.partition AND e.sequence = l.sequence) = 1
    ) THEN
        RAISE EXCEPTION 'journal: a sealed entry takes no more legs' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER journal_legs_inserted AFTER INSERT ON journal_legs REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION journal_legs_inserted();

CREATE FUNCTION journal_legs_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'journal: a leg never changes' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER journal_legs_updated BEFORE UPDATE ON journal_legs
FOR EACH STATEMENT EXECUTE FUNCTION journal_legs_updated();

-- Legs that went with their entry have none any more.
CREATE FUNCTION journal_legs_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM removed l
        WHERE (SELECT e.sealed FROM journal_entries e WHERE e.partition = l.partition AND e.sequence = l.sequence) = 1
    ) THEN
        RAISE EXCEPTION 'journal: a sealed entry keeps its legs' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER journal_legs_deleted AFTER DELETE ON journal_legs REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION journal_legs_deleted();

CREATE FUNCTION journal_legs_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'journal: a sealed entry keeps its legs' USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER journal_legs_truncated BEFORE TRUNCATE ON journal_legs
FOR EACH STATEMENT EXECUTE FUNCTION journal_legs_truncated();

CREATE FUNCTION journal_entries_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added WHERE sealed <> 0) THEN
        RAISE EXCEPTION 'journal: an entry begins open' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER journal_entries_inserted AFTER INSERT ON journal_entries REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION journal_entries_inserted();

-- The sums of the limbs, carried upwards, must all be nothing. Division of what is divisible is exact, below zero too.
CREATE FUNCTION journal_entries_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lacking BOOLEAN;
    unequal BOOLEAN;
BEGIN
    IF EXISTS (SELECT 1 FROM former WHERE sealed = 1)
       OR EXISTS (SELECT partition, sequence, legs FROM changed EXCEPT SELECT partition, sequence, legs FROM former) THEN
        RAISE EXCEPTION 'journal: an entry changes only by being sealed' USING ERRCODE = 'check_violation';
    END IF;
    SELECT BOOL_OR(COALESCE(f.legs, 0) <> e.legs), BOOL_OR(f.unequal) INTO lacking, unequal
    FROM changed e CROSS JOIN LATERAL (
        SELECT SUM(s.legs) AS legs, BOOL_OR(
            d0 % 4294967296 <> 0
            OR (d1 + d0 / 4294967296) % 4294967296 <> 0
            OR (d2 + (d1 + d0 / 4294967296) / 4294967296) % 4294967296 <> 0
            OR d3 + (d2 + (d1 + d0 / 4294967296) / 4294967296) / 4294967296 <> 0
        ) AS unequal
        FROM (
            SELECT COUNT(*) AS legs,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a0 ELSE -l.a0 END) AS BIGINT) AS d0,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a1 ELSE -l.a1 END) AS BIGINT) AS d1,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a2 ELSE -l.a2 END) AS BIGINT) AS d2,
                   CAST(SUM(CASE l.side WHEN 0 THEN l.a3 ELSE -l.a3 END) AS BIGINT) AS d3
            FROM journal_legs l WHERE l.partition = e.partition AND l.sequence = e.sequence GROUP BY l.asset
        ) AS s
    ) AS f;
    IF lacking THEN
        RAISE EXCEPTION 'journal: the entry does not have all its legs' USING ERRCODE = 'check_violation';
    END IF;
    IF unequal THEN
        RAISE EXCEPTION 'journal: debits and credits of the entry differ' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER journal_entries_updated AFTER UPDATE ON journal_entries
REFERENCING OLD TABLE AS former NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION journal_entries_updated();
